"""The README's Python example runs as it stands."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_example_runs(capsys) -> None:
    example = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert example
    exec(compile(example[1], str(README), "exec"), {})
    cycles, utilisation = capsys.readouterr().out.split()
    assert int(cycles) > 0
    assert 0 < float(utilisation) <= 1
