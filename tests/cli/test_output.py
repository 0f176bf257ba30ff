"""Tables, ages and sizes as kubectl prints them; progress on a terminal and in a pipe."""

from __future__ import annotations

import json
import pty

import pytest

from netlab.cli import output, progress
from netlab.lab.progress import Progress


def test_a_table_has_no_trailing_blanks_and_no_holes():
    assert output.table(["NAME", "IP"], [["a-long-name", ""], ["b", "10.0.0.1"], ["c", 0]]) == (
        "NAME          IP\n"
        "a-long-name   <none>\n"
        "b             10.0.0.1\n"
        "c             0")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0s"), (119, "119s"), (120, "2m"), (200, "3m20s"), (660, "11m"),
                                               (3 * 3600, "3h"), (48 * 3600, "2d"), (-5, "0s")])
def test_ages(seconds, text):
    assert output.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0.0 MiB"), (1 << 20, "1.0 MiB"), (3 << 29, "1.5 GiB")])
def test_sizes(count, text):
    assert output.size(count) == text


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_structured_output_reads_back(form, capsys):
    import yaml

    value = [{"a": 1, "b": "ä", "c": None}]
    output.emit(value, form)
    said = capsys.readouterr().out
    assert (json.loads(said) if form == "json" else yaml.safe_load(said)) == value


def test_a_pipe_stays_quiet(capsys):
    shown = progress.choose()
    shown.step("Working")
    shown.note("1/2")
    shown.done()
    assert capsys.readouterr() == ("", "")
    assert [step.words for step in shown.steps] == ["Working"]


def test_a_terminal_shows_each_step_once(monkeypatch):
    import os

    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
        shown = progress.choose()
        shown.step("One")
        shown.note("half of it")
        shown.step("Two")
        shown.failed()
        terminal.flush()
        said = ""
        while "✗ Two\r\n" not in said:
            said += os.read(reader, 4096).decode()
    os.close(reader)
    last = [line.split("\r\033[K")[-1] for line in said.split("\r\n")]
    assert last[0].startswith(" ✓ One 0.")
    assert last[1:] == [" ✗ Two", ""]


def test_the_waterfall_has_a_row_for_each_step_and_mark():
    shown = Progress()
    shown.step("first")
    shown.mark("a moment")
    shown.done()
    rows = progress.waterfall(shown).splitlines()
    assert [row.split()[-1] for row in rows] == ["first", "moment"]
