"""Messages between the processes of a lab."""

from __future__ import annotations

import os
import stat

import pytest

from netlab.errors import KernelError, TemporaryError
from netlab.lab import control


def test_a_message_and_its_descriptors_arrive_together():
    ours, theirs = control.pair()
    reader, writer = os.pipe()
    with ours, theirs:
        control.send(ours, {"op": "x", "words": "ä" * 10_000}, [writer])
        os.close(writer)
        message, (got,) = control.receive(theirs)
        os.write(got, b"through")
        os.close(got)
    assert message["words"] == "ä" * 10_000
    assert os.read(reader, 10) == b"through"
    os.close(reader)


def test_two_hundred_descriptors_fit_into_one_message():
    ours, theirs = control.pair()
    null = os.open("/dev/null", os.O_RDONLY)
    with ours, theirs:
        control.send(ours, {}, [null] * 200)
        _, got = control.receive(theirs)
    assert len(set(got)) == 200
    for fd in (null, *got):
        os.close(fd)


def test_an_error_on_the_other_side_is_raised_here():
    ours, theirs = control.pair()
    with ours, theirs:
        control.send(theirs, {"error": "no such thing", "hint": "look"})
        with pytest.raises(KernelError, match="no such thing") as caught:
            control.answer(ours)
    assert caught.value.hint == "look"


def test_an_end_without_an_answer_is_told():
    ours, theirs = control.pair()
    theirs.close()
    with ours, pytest.raises(TemporaryError):
        control.ask(ours, {"op": "x"})


def test_only_the_owner_may_connect(tmp_path):
    path = tmp_path / "s"
    with control.listen(path), control.connect(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(TemporaryError, match="nobody answers"):
        control.connect(path)
