import numpy as np
import pytest
from tiny_board import CAPABILITIES, CONFIG, drawn_job, new_board

from winohw.gateware.config import EngineConfig
from winohw.gateware.descriptor import LayerError
from winohw.gateware.frame import Frame, Kind, encode_frame
from winohw.gateware.job import Job
from winohw.host.board_sim import SimulatedTransport
from winohw.host.driver import BoardError, Driver, NoAnswer
from winohw.host.transport import TransportError
from winohw.sim.layer import LayerRefused


class Disturbed:
    """A transport that alters, cuts, repeats and delays what passes, frame by frame, in both directions."""

    def __init__(self, inner, seed, rate):
        self.inner, self.rate = inner, rate
        self.rng = np.random.default_rng(seed)
        self.frames = self.faults = 0
        self.late = {True: b"", False: b""}
        self.rest = b""

    def _pass(self, coded, forth):
        self.frames += 1
        late, self.late[forth] = self.late[forth], b""
        if self.rng.random() >= self.rate:
            return coded + late
        self.faults += 1
        coded = bytearray(coded)
        match self.rng.integers(7):
            case 0:
                coded[self.rng.integers(len(coded))] ^= 1 << self.rng.integers(8)
            case 1:
                for place in self.rng.integers(len(coded), size=5):
                    coded[place] = self.rng.integers(256)
            case 2:
                del coded[self.rng.integers(len(coded)) :]
            case 3:
                first, last = sorted(self.rng.integers(len(coded), size=2))
                del coded[first:last]
            case 4:
                coded *= 2
            case 5:
                self.late[forth] = bytes(coded)
                coded = bytearray()
            case 6:
                place = self.rng.integers(len(coded))
                noise = self.rng.integers(0, 256, self.rng.integers(1, 400)).astype(np.uint8)
                coded[place:place] = noise.tobytes()
        return bytes(coded) + late

    def write(self, data):
        self.inner.write(self._pass(data, forth=True))

    def read(self, timeout):
        # Frames are told apart by the zero bytes before and after them.
        data = self.rest + self.inner.read(timeout)
        end = data.rfind(b"\0") + 1
        self.rest = data[end:]
        return b"".join(self._pass(b"\0" + part + b"\0", forth=False) for part in data[:end].split(b"\0") if part)

    def close(self):
        self.inner.close()


def test_what_a_board_says_and_computes():
    with Driver(SimulatedTransport(new_board())) as driver:
        assert driver.capabilities == CAPABILITIES
        for seed in range(4):
            job, pixels, expected = drawn_job(seed)
            shares = []
            run = driver.run(job, pixels, progress=shares.append)
            np.testing.assert_array_equal(run.pixels, expected)
            assert run.status.busy == job.array_chunks()
            assert shares[-1] == 1
            assert shares == sorted(shares)
        assert driver.link.repeats == driver.link.damaged == driver.link.stray == driver.link.restarts == 0
        # One answer to reset, the pages, four jobs; none is repeated.
        assert run.status.repeated == run.status.damaged == 0


def exchanges(seed, rate, frames):
    """Jobs until so many frames have passed a disturbed line; every result must be right or not there at all."""
    transport = Disturbed(SimulatedTransport(new_board(), patience=30_000), seed, rate)
    driver = None
    right = failures = restarts = 0
    while transport.frames < frames:
        try:
            if driver is None:
                driver = Driver(transport, timeout=10)
                assert driver.capabilities == CAPABILITIES
            job, pixels, expected = drawn_job(right % 12)
            run = driver.run(job, pixels)
        except (NoAnswer, BoardError):
            failures += 1
            driver = None
            continue
        np.testing.assert_array_equal(run.pixels, expected)
        restarts += run.link.restarts
        right += 1
    # It recovers: without disturbance the same board, as it was left, does the next job at once.
    transport.rate = 0
    driver = Driver(transport, timeout=10)
    job, pixels, expected = drawn_job(12)
    run = driver.run(job, pixels)
    np.testing.assert_array_equal(run.pixels, expected)
    driver.close()
    return transport, right, failures, restarts


def test_some_faults():
    transport, right, failures, _ = exchanges(1, 0.1, 1500)
    assert transport.faults > 100
    assert right > 20
    assert failures == 0


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "frames"), [(0.02, 5000), (0.2, 8000), (0.6, 4000)])
def test_many_faults(rate, frames):
    transport, right, failures, restarts = exchanges(int(100 * rate), rate, frames)
    print(
        f"{transport.frames} frames, {transport.faults} faults: {right} jobs right, {restarts} begun anew, "
        f"{failures} given up"
    )
    assert transport.faults > 0.9 * rate * frames
    assert right > 10
    assert rate > 0.5 or failures == 0


def test_a_board_that_forgets_in_the_middle():
    """Another program resets the board while a job runs: the driver begins anew and says so."""
    board = new_board()
    transport = SimulatedTransport(board)
    driver = Driver(transport, timeout=10, retries=2)
    job, pixels, expected = drawn_job(1)
    seen = []

    def reset_once(share):
        if share > 0.3 and not seen:
            seen.append(share)
            board.run(encode_frame(Frame(Kind.RESET, 0x1234)), 20_000)

    run = driver.run(job, pixels, progress=reset_once)
    np.testing.assert_array_equal(run.pixels, expected)
    assert seen
    assert run.link.restarts == 1


def test_half_a_job_leaves_no_trace():
    """A host that goes away in the middle, and a new one: its job is computed from its own data alone."""

    class Gone(Exception):
        pass

    def leave(share):
        if share > 0.5:
            raise Gone

    board = new_board()
    job, pixels, _ = drawn_job(1)
    with pytest.raises(Gone):
        Driver(SimulatedTransport(board), timeout=10).run(job, pixels, progress=leave)
    job, pixels, expected = drawn_job(2)
    run = Driver(SimulatedTransport(board), timeout=10).run(job, pixels)
    np.testing.assert_array_equal(run.pixels, expected)


def test_a_run_that_was_broken_off_is_forgotten():
    def leave(share):
        raise KeyboardInterrupt

    driver = Driver(SimulatedTransport(new_board()), timeout=10)
    job, pixels, expected = drawn_job(1)
    with pytest.raises(KeyboardInterrupt):
        driver.run(job, pixels, progress=leave)
    np.testing.assert_array_equal(driver.run(job, pixels).pixels, expected)
    assert driver.link.restarts == 0


def test_nobody_there():
    class Silent:
        def __init__(self):
            self.written = []

        def write(self, data):
            self.written.append(data)

        def read(self, timeout):
            return b""

    line = Silent()
    with pytest.raises(NoAnswer, match=r"^the board did not answer RESET, sent 4 times, 0\.1 s each; is it the right"):
        Driver(line, timeout=0.1, retries=3)
    assert len(set(line.written)) == 1
    assert len(line.written) == 4


def test_an_unplugged_cable():
    class Unplugged(SimulatedTransport):
        left = 6

        def read(self, timeout):
            self.left -= 1
            if self.left < 0:
                raise TransportError("The serial port is gone")
            return super().read(timeout)

    job, pixels, _ = drawn_job(1)
    driver = Driver(Unplugged(new_board()), timeout=10)
    with pytest.raises(TransportError, match=r"^The serial port is gone$"):
        driver.run(job, pixels)


def test_refusals():
    driver = Driver(SimulatedTransport(new_board()), timeout=10)
    job, pixels, expected = drawn_job(1)
    with pytest.raises(ValueError, match=r"^the job is for another engine "):
        driver.run(Job(EngineConfig(), job.layer, job.images), pixels)
    broken = Job(CONFIG, job.layer, job.images)
    object.__setattr__(broken, "block_rows", 60)
    with pytest.raises(LayerRefused, match="the engine refused the layer: ") as refused:
        driver.run(broken, pixels)
    assert refused.value.code != LayerError.OK
    assert driver.link.restarts == 0
    np.testing.assert_array_equal(driver.run(job, pixels).pixels, expected)
