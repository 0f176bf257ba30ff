"""Folding: nothing wider than the terminal, nothing lost, colours closed at the end of every line."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.trace.fold import columns, fold


def test_a_line_that_fits_stays() -> None:
    assert fold("  a line\nanother", 40) == "  a line\nanother"
    assert fold("x" * 300, 0) == "x" * 300


def test_the_rest_hangs_below_the_text() -> None:
    assert fold("    " + "word " * 9 + "end", 40, hang=8).split("\n") == [
        "    word word word word word word word", "        word word end"]


def test_colours_end_with_the_line_and_go_on_in_the_next() -> None:
    first, second = fold("\x1b[31m" + "red " * 12 + "end\x1b[0m", 40).split("\n")
    assert first.endswith("\x1b[0m")
    assert second.startswith("  \x1b[31m")


def test_a_target_stays_with_its_option() -> None:
    assert fold("-p tcp --dport 80 --and so on and on -j TARGET", 42).split("\n")[1] == "  -j TARGET"


def test_wide_characters_count_twice() -> None:
    assert columns("字a\x1b[1m✓\x1b[0m") == 4


@pytest.mark.parametrize("width", [40, 61, 120])
@given(words=st.lists(st.text("ab-/:→✓=>", min_size=1, max_size=90), min_size=1, max_size=30), indent=st.integers(0, 20))
def test_nothing_is_wider_and_nothing_is_lost(width: int, words: list[str], indent: int) -> None:
    line = " " * indent + " ".join(words)
    folded = fold(line, width, hang=14)
    assert all(columns(part) <= width for part in folded.split("\n"))
    assert re.sub(r"\s", "", folded) == re.sub(r"\s", "", line)
