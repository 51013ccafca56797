"""Runs jobs on a board."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from winohw.gateware.capabilities import Capabilities
from winohw.gateware.descriptor import LayerError
from winohw.gateware.frame import ANSWER, MAX_PAYLOAD, Code, Frame, FrameDecoder, Kind, encode_frame
from winohw.gateware.job import Job
from winohw.host.protocol import Answer, BoardStatus
from winohw.host.transport import Transport
from winohw.sim.layer import LayerRefused

__all__ = ["BoardError", "BoardRun", "Driver", "LinkStatistics", "NoAnswer"]

_WORDS = MAX_PAYLOAD // 4


class NoAnswer(RuntimeError):
    """The board did not answer a request, however often it was repeated."""


class BoardError(RuntimeError):
    """The board answered that it could not carry out a request; `code` says why."""

    def __init__(self, kind: Kind, code: Code):
        super().__init__(f"the board did not carry out {kind.name}: {code.name}")
        self.code = code


@dataclass
class LinkStatistics:
    """What the host has seen of the link.

    Parameters
    ----------
    requests : requests, each counted once.
    repeats : times that one was sent again.
    damaged : frames that came damaged.
    stray : answers to other requests than the last one.
    restarts : jobs begun anew, because the board had forgotten them or did not answer.
    sent, received : bytes on the line.
    payload : bytes of weights, pixels and output.
    """

    requests: int = 0
    repeats: int = 0
    damaged: int = 0
    stray: int = 0
    restarts: int = 0
    sent: int = 0
    received: int = 0
    payload: int = 0


@dataclass(frozen=True, eq=False)
class BoardRun:
    """A layer that a board has computed.

    Parameters
    ----------
    job : what was run.
    pixels : (images, out_height, out_width, filters) int8.
    status : the engine's counters and the board's view of the link.
    seconds : from the first byte to the last.
    link : the host's view of the link, for this job alone.
    """

    job: Job
    pixels: NDArray[np.int8]
    status: BoardStatus
    seconds: float
    link: LinkStatistics


@dataclass
class _Progress:
    """How far a job is."""

    weights: bytes
    pixels: bytes
    total: int
    weights_sent: int = 0
    pixels_sent: int = 0
    output: bytearray = field(default_factory=bytearray)

    @property
    def done(self) -> float:
        moved = self.weights_sent + self.pixels_sent + len(self.output)
        return moved / (len(self.weights) + len(self.pixels) + self.total)


class Driver:
    """A board at the end of a transport.

    Every request is repeated until its answer comes, `retries` times; the board carries it out once. If it does not
    answer at all, or has forgotten the job because it was reset, the job is begun anew, once.

    Parameters
    ----------
    transport : the way to the board.
    timeout : seconds to wait for an answer.
    retries : times that a request is sent again.

    Attributes
    ----------
    capabilities : what the board said about itself.
    link : statistics since the driver was made.

    Raises
    ------
    NoAnswer
        The board does not answer.
    ValueError
        The board's description of itself cannot be read.
    TransportError
        The connection is lost.
    """

    def __init__(self, transport: Transport, *, timeout: float = 0.5, retries: int = 10):
        self.transport = transport
        self.timeout = timeout
        self.retries = retries
        self.link = LinkStatistics()
        self._decoder = FrameDecoder()
        # A new number each time, so that an answer to a driver before this one is not taken for one to this one.
        self._sequence = random.SystemRandom().randrange(1 << 16)
        self._ready = False
        self.capabilities = self._connect()

    def _connect(self) -> Capabilities:
        self.reset()
        pages = b""
        for number in range(256):
            answer = self._request(Kind.INFO, bytes([number]), refusals=(Code.RANGE,))
            if answer.code == Code.RANGE:
                break
            pages += answer.data
        return Capabilities.decode(pages)

    def close(self) -> None:
        """Ends the connection."""
        self.transport.close()

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reset(self) -> None:
        """Puts engine and buffers into the state after power-on.

        Raises
        ------
        NoAnswer, TransportError
        """
        self._request(Kind.RESET)
        self._ready = True

    def run(self, job: Job, pixels: NDArray[np.int8], *, progress: Callable[[float], None] | None = None) -> BoardRun:
        """Run a job on images (images, height, width, channels) int8.

        Parameters
        ----------
        job : for the engine of this board.
        pixels : the images.
        progress : called with the share of all bytes that have been transferred, 0 ... 1.

        Raises
        ------
        LayerRefused
            The engine refused the descriptor.
        NoAnswer, BoardError
            The board does not answer, or lost the job, in two attempts.
        TransportError
            The connection is lost.
        ValueError
            The job is for another engine, or the images for another layer.
        """
        if job.config != self.capabilities.config:
            raise ValueError(
                f"the job is for another engine ({job.config.describe()}) than the board's "
                f"({self.capabilities.config.describe()})"
            )
        weights, beats = job.weight_beats().tobytes(), job.pixel_beats(pixels).tobytes()
        counts = job.output_order[:, 4]
        before = asdict(self.link)
        began = time.monotonic()
        for attempt in range(2):
            try:
                output, status = self._attempt(job, _Progress(weights, beats, int(counts.sum())), progress)
                break
            except (NoAnswer, BoardError):
                self._ready = False
                if attempt:
                    raise
                self.link.restarts += 1
        link = LinkStatistics(**{name: value - before[name] for name, value in asdict(self.link).items()})
        return BoardRun(job, job.collect(_lanes(output, counts, job), counts), status, time.monotonic() - began, link)

    def _attempt(
        self, job: Job, state: _Progress, progress: Callable[[float], None] | None
    ) -> tuple[bytes, BoardStatus]:
        if not self._ready:
            self.reset()
        self._ready = False
        words = job.descriptor().astype("<u4")
        for first in range(0, len(words), _WORDS):
            kind = Kind.LAYER_END if first + _WORDS >= len(words) else Kind.LAYER
            answer = self._request(kind, words[first : first + _WORDS].tobytes())
        # The engine's verdict on the descriptor comes before anything else, and well within the time of an answer.
        answer = self._request(Kind.READ)
        if not answer.finished:
            answer = self._transfer(state, answer, progress)
        if not answer.finished or len(state.output) != state.total:
            answer = self._drain(state, answer, progress)
        status = BoardStatus.parse(self._request(Kind.STATUS).data)
        if status.code != LayerError.OK:
            raise LayerRefused(LayerError(status.code))
        if len(state.output) != state.total:
            raise NoAnswer(f"the layer ended after {len(state.output)} of its {state.total} bytes")
        self._ready = True
        return bytes(state.output), status

    def _transfer(self, state: _Progress, answer: Answer, progress: Callable[[float], None] | None) -> Answer:
        """Sends whatever has room, until all is sent."""
        while state.weights_sent < len(state.weights) or state.pixels_sent < len(state.pixels):
            weights = state.weights[state.weights_sent :][:MAX_PAYLOAD]
            pixels = state.pixels[state.pixels_sent :][:MAX_PAYLOAD]
            if weights and len(weights) <= answer.weights_room:
                answer = self._request(Kind.WEIGHTS, weights)
                state.weights_sent += len(weights)
            elif pixels and len(pixels) <= answer.pixels_room:
                answer = self._request(Kind.PIXELS, pixels)
                state.pixels_sent += len(pixels)
            else:
                answer = self._request(Kind.READ)
            self._take(state, answer)
            if progress:
                progress(state.done)
        return answer

    def _drain(self, state: _Progress, answer: Answer, progress: Callable[[float], None] | None) -> Answer:
        """Reads until the layer has ended and all its output is here."""
        quiet_since, ended = time.monotonic(), False
        while not answer.finished or len(state.output) < state.total:
            answer = self._request(Kind.READ)
            if answer.data:
                quiet_since = time.monotonic()
            elif answer.finished:
                # A refused layer has no output. The last bytes may still be on their way when the status has come, but
                # not a whole request later.
                if ended:
                    break
                ended = True
            elif time.monotonic() - quiet_since > _PATIENCE:
                raise NoAnswer(f"the engine gave {len(state.output)} of {state.total} bytes, and then no more")
            self._take(state, answer)
            if progress:
                progress(state.done)
        return answer

    def _take(self, state: _Progress, answer: Answer) -> None:
        state.output += answer.data
        self.link.payload += len(answer.data)
        if len(state.output) > state.total:
            raise NoAnswer(f"the engine gave more than the {state.total} bytes of the layer")

    def _request(self, kind: Kind, payload: bytes = b"", refusals: tuple[Code, ...] = ()) -> Answer:
        """Sends a request until it is answered; codes in `refusals` are for the caller."""
        self._sequence = self._sequence + 1 & 0xFFFF
        coded = encode_frame(Frame(kind, self._sequence, payload))
        self.link.requests += 1
        self.link.payload += len(payload) if kind in (Kind.WEIGHTS, Kind.PIXELS) else 0
        for attempt in range(1 + self.retries):
            self.link.repeats += attempt > 0
            self.link.sent += len(coded)
            self.transport.write(coded)
            answer = self._answer(kind)
            if answer is None:
                continue
            if answer.code not in (Code.OK, *refusals):
                raise BoardError(kind, answer.code)
            return answer
        raise NoAnswer(
            f"the board did not answer {kind.name}, sent {1 + self.retries} times, {self.timeout} s each; "
            "is it the right port, and has the board its bitstream?"
        )

    def _answer(self, kind: Kind) -> Answer | None:
        """The answer to the request with the last number; None if none comes in time, or a damaged frame came."""
        deadline = time.monotonic() + self.timeout
        while (left := deadline - time.monotonic()) > 0:
            data = self.transport.read(left)
            if not data:
                return None
            self.link.received += len(data)
            damaged = self._decoder.damaged
            for frame in self._decoder.feed(data):
                if (frame.kind, frame.sequence) == (kind | ANSWER, self._sequence):
                    return Answer.parse(frame.payload)
                self.link.stray += 1
            if self._decoder.damaged > damaged:
                self.link.damaged += self._decoder.damaged - damaged
                return None
        return None


#: Seconds without any output after which a layer counts as lost.
_PATIENCE = 30.0


def _lanes(output: bytes, counts: NDArray[np.int32], job: Job) -> NDArray[np.int8]:
    """Bytes of output as the beats of the engine's output stream."""
    lanes = job.config.requantizer_lanes
    pixels = np.zeros((len(counts), lanes), np.int8)
    pixels[np.arange(lanes) < counts[:, None]] = np.frombuffer(output, np.int8)
    return pixels
