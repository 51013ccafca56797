import os
import time
import tty

import numpy as np
import pytest
from random_layers import random_job
from tiny_board import CAPABILITIES, drawn_job, new_board

from winohw.gateware.frame import Frame, FrameDecoder, Kind, encode_frame
from winohw.host.board_sim import PseudoTerminal
from winohw.host.build_commands import overridden
from winohw.host.connection import connect_simulation
from winohw.host.driver import Driver
from winohw.host.transport import SerialTransport
from winohw.synth.board import find_board


def test_the_driver_over_a_pseudo_terminal():
    with PseudoTerminal(new_board()) as terminal:
        for seed in range(3):
            # A new driver each time, as if the program were started again.
            with Driver(SerialTransport(terminal.device), timeout=20) as driver:
                assert driver.capabilities == CAPABILITIES
                job, pixels, expected = drawn_job(seed)
                run = driver.run(job, pixels)
                np.testing.assert_array_equal(run.pixels, expected)
                assert run.link.repeats == run.link.damaged == 0


def test_any_program_can_talk_to_it():
    """Plain reads and writes of the device; every byte passes as it is."""
    with PseudoTerminal(new_board()) as terminal:
        device = os.open(terminal.device, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(device)
        decoder, frames = FrameDecoder(), []
        # All byte values are in it: none is taken for a control character.
        payload = bytes(range(240))
        for frame in (Frame(Kind.RESET, 3), Frame(Kind.WEIGHTS, 4, payload)):
            os.write(device, encode_frame(frame))
            while not frames or frames[-1].sequence != frame.sequence:
                frames += decoder.feed(os.read(device, 1000))
        os.close(device)
    assert [frame.kind for frame in frames] == [Kind.RESET | 0x80, Kind.WEIGHTS | 0x80]
    assert decoder.damaged == 0


def test_it_sleeps_when_nothing_moves():
    """Its time goes on, at most 2000 cycles a nap of 20 ms; how soon it falls asleep depends on the machine."""
    with PseudoTerminal(new_board()) as terminal:
        for _ in range(30):
            cycles = terminal.board.cycles
            time.sleep(1)
            if 0 < terminal.board.cycles - cycles <= 51 * 2_000:
                break
        else:
            pytest.fail(f"{terminal.board.cycles - cycles} cycles in a second of silence")


def test_a_board_with_another_engine():
    """The F(4,3) engine of docs/boards.md behind the iCEBreaker's link."""
    sizes = {"dimension_bits": 7, "max_products": 288, "line_words": 8192}
    board = overridden(find_board("icebreaker"), {"tile": 4, "fold": 6, **sizes})
    assert board.config.multipliers == 6
    rng = np.random.default_rng(1)
    with connect_simulation(board) as driver:
        for _ in range(3):
            job, pixels = random_job(rng, board.config, channels=32)
            np.testing.assert_array_equal(driver.run(job, pixels).pixels, job.layer.reference(pixels))
