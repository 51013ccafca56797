"""A photograph through a simulated board, from outside: two programs and a serial port between them.

    python docs/board_photograph.py ulx3s-25f
    python docs/board_photograph.py icebreaker my-picture.png

`winohw board-sim` runs the board's gateware behind a pseudo-terminal, `winohw run --port` drives it as it would drive
a real one. The pictures must be those of plain `winohw run`, byte for byte. (Small boards requantize by a shift alone;
plain `winohw run` is then told to do so too.)
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

WINOHW = (sys.executable, "-m", "winohw.cli")


def run(*arguments: str) -> dict:
    """What `winohw run` reports."""
    command = [*WINOHW, "run", *arguments, "--no-direct", "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main(board: str, *image: str) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen([*WINOHW, "board-sim", board], stdout=subprocess.PIPE, text=True) as simulation,
    ):
        through_board, plain = Path(folder, "board"), Path(folder, "plain")
        try:
            assert simulation.stdout is not None
            line = simulation.stdout.readline().strip()
            if not line:
                raise SystemExit(f"the simulation of {board} did not start")
            print(line)
            port = line.rsplit(" at ", 1)[1]
            figures = run(*image, "--port", port, "--board", board, "--timeout", "20", "--output", str(through_board))
        finally:
            simulation.terminate()
        run(*image, "--requantizer", figures["board"]["requantizer"], "--output", str(plain))
        names = sorted(path.name for path in plain.iterdir())
        same = [(plain / name).read_bytes() == (through_board / name).read_bytes() for name in names]
    link = figures["board"]["link"]
    print(f"{len(names)} pictures, {sum(same)} of them equal to those of plain winohw run, byte for byte")
    print(f"bit-exact with direct convolution: {figures['bit_exact_with_direct_convolution']}")
    print(f"{link['payload']:,} bytes in {link['requests']:,} requests")
    if not (all(same) and figures["bit_exact_with_direct_convolution"]):
        raise SystemExit(1)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
