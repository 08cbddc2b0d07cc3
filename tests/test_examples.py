"""The examples, and the code in the README, run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("script", sorted(ROOT.glob("examples/[a-z]*.py")), ids=lambda path: path.name)
def test_example(script: Path, tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout
    assert run.stderr == ""
    assert not list(tmp_path.iterdir())


def test_quickstart_finds_the_bee(tmp_path: Path) -> None:
    script = ROOT / "examples" / "quickstart.py"
    run = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert lines[2].split()[1] == "bees:"
    assert lines[-1] == "before 2021: glaciers"


def test_the_readme_runs_when_pasted(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "url=" not in block]
    assert len(blocks) == 4
    printed = []
    for block in blocks:
        run = subprocess.run(
            [sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        printed.append(run.stdout)
    assert "bees" in printed[0]
    assert "rerank" in printed[1]
