"""The tools that keep the code in shape, run as tests: what they complain about fails here too."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def _tool(*argv: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / argv[0]
    return subprocess.run([str(program), *argv[1:]], cwd=ROOT, capture_output=True, text=True, timeout=110,
                          check=False)


def test_ruff_has_nothing_to_say():
    done = _tool("ruff", "check", "--no-cache", "netlab", "tests")
    assert done.returncode == 0, done.stdout


def test_types_hold():
    done = _tool("mypy", "netlab")
    assert done.returncode == 0, done.stdout


def test_imports_only_go_down():
    done = _tool("lint-imports", "--no-cache")
    assert done.returncode == 0, done.stdout


def test_modules_stay_small():
    long = {str(file.relative_to(ROOT)): count for file in (ROOT / "netlab").rglob("*.py")
            if (count := len(file.read_text().splitlines())) > 400}
    assert not long


def test_nothing_is_left_for_later():
    marker = re.compile(r"\b(TO[D]O|FIX[M]E|XX[X]|NotImplemented[E]rror)\b")
    found = [f"{file.relative_to(ROOT)}:{number}" for folder in ("netlab", "tests", "vagrant")
             for file in (ROOT / folder).rglob("*") if file.suffix in (".py", ".sh")
             for number, line in enumerate(file.read_text().splitlines(), 1) if marker.search(line)]
    assert not found
