from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from netlab.kernel import scratch

HOLD = ("import sys; from netlab.kernel.scratch import folder\n"
        "with folder('scratch-') as made: print(made, flush=True); sys.stdin.read()")


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "scratch-foreign").mkdir()
    (tmp_path / "scratch-file").touch()
    killed, alive = (subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                      env={"TMPDIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}) for _ in range(2))
    assert killed.stdout is not None
    assert alive.stdout is not None
    left, held = (Path(each.stdout.readline().strip()) for each in (killed, alive))
    (left / "some").mkdir()
    killed.kill()
    killed.wait()
    assert left.is_dir()
    with scratch.folder("scratch-") as made:
        assert not left.exists()
        assert {each.name for each in tmp_path.iterdir()} == {"scratch-foreign", "scratch-file", held.name, made.name}
    alive.communicate("")
    assert {each.name for each in tmp_path.iterdir()} == {"scratch-foreign", "scratch-file"}
