"""What README.md says is so."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import digitwise as dw
from digitwise.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_ten_lines_run(capsys: pytest.CaptureFixture[str]) -> None:
    lines = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert lines
    with pytest.warns(dw.SampleDataWarning):
        exec(lines[1], {})
    printed = capsys.readouterr().out.splitlines()[-1]
    assert printed.endswith("% of 1000 test images")
    assert float(printed.split("%")[0]) > 94


def test_the_tables_say_what_was_measured() -> None:
    check = [sys.executable, str(ROOT / "benchmarks" / "tables.py"), "--check"]
    assert subprocess.run(check, check=False).returncode == 0


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_commands_and_options_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    for line in re.findall(r"(?:^|`)(digitwise [a-z][^#`\n]*)", README, re.M):
        words = line.split()
        options = [word for word in words if word.startswith("--")]
        depth = 3 if words[1] == "datasets" else 2
        assert main([*words[1:depth], "--help"]) == 0
        shown = capsys.readouterr().out
        for option in options:
            assert option in shown, line
