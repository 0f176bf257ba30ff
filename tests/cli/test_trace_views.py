"""The views of a saved trace on the command line; nothing here needs a lab or root."""

from __future__ import annotations

import json
import os
import pty
import struct
import subprocess
import sys
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pytest

from netlab.cli.main import run
from netlab.trace.fold import columns
from netlab.trace.views import render
from tests.trace.views.test_views import EVIL, subject


@pytest.fixture
def trace(tmp_path: Path) -> str:
    path = tmp_path / "trace.json"
    path.write_bytes(render(subject(), "json"))
    return str(path)


def test_a_saved_trace_is_shown_and_saved_again(trace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ends = ("json", "svg", "html", "mmd", "txt", "yaml", "pcapng")
    assert run(["trace", "--from-json", trace, *(word for end in ends for word in ("--save", str(tmp_path / f"a.{end}")))]) == 0
    text = capsys.readouterr().out
    assert "DNAT 10.96.0.10:80 → 10.244.2.3:8080" in text
    assert "\x1b" not in text
    assert (tmp_path / "a.json").read_bytes() == Path(trace).read_bytes()
    assert (tmp_path / "a.txt").read_text() == text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(f"a.{end}" for end in ends), "trace.json"])


def test_formats_on_standard_output(trace: str, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    for form in ("json", "yaml", "mermaid", "svg", "html"):
        assert run(["trace", "--from-json", trace, "-o", form]) == 0
        assert capsysbinary.readouterr().out == render(subject(), form)


def test_the_exit_code_is_the_traces(tmp_path: Path) -> None:
    path = tmp_path / "died.json"
    path.write_bytes(render(subject(died=True), "json"))
    assert run(["trace", "--from-json", str(path)]) == 1


@pytest.mark.parametrize(("argv", "says"), [
    (["trace"], "want FROM and TO"), (["trace", "pod/a"], "got only pod/a"),
    (["trace", "pod/a", "svc/b", "--from-json", "x"], "FROM and TO are not sent"),
    (["trace", "pod/a", "svc/b", "--save", "x.docx"], "can't tell the format of x.docx"),
    (["trace", "--from-json", "/nowhere/x.json"], "can't read /nowhere/x.json"),
    (["trace", "--from-json", os.devnull], "not JSON"),
])
def test_words_that_do_not_fit(argv: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(argv) != 0
    assert says in capsys.readouterr().err


def test_a_file_that_cannot_be_written(trace: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trace", "--from-json", trace, "-w", "/nowhere/x.pcapng"]) == 1
    assert "can't write /nowhere/x.pcapng" in capsys.readouterr().err


@pytest.mark.parametrize(("environment", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_on_a_terminal_it_is_coloured_and_folded(tmp_path: Path, environment: dict[str, str], colored: bool) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(render(subject(EVIL + " word" * 40 + "\x1b]0;title\x07"), "json"))
    master, slave = pty.openpty()
    ioctl(slave, TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    env = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")} | environment
    process = subprocess.Popen([sys.executable, "-P", "-m", "netlab.cli.main", "trace", "--from-json", str(path)],
                               stdin=slave, stdout=slave, stderr=slave, env=env)
    os.close(slave)
    said = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # EIO: nobody has the other end any more
            break
        said += piece
    os.close(master)
    assert process.wait() == 0
    lines = said.decode().replace("\r\n", "\n").split("\n")
    assert all(columns(line) <= 60 for line in lines)
    assert ("\x1b[" in said.decode()) is colored
    assert "\x1b]" not in said.decode()


def test_json_is_what_programs_read(trace: str) -> None:
    done = subprocess.run([sys.executable, "-P", "-m", "netlab.cli.main", "trace", "--from-json", "-", "-o", "json"],
                          input=Path(trace).read_bytes(), capture_output=True, check=True)
    assert json.loads(done.stdout)["schema"] == "netlab.trace/v1"
