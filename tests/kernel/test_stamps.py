"""A packet bears the time at which it came, not the one at which it was read."""

from __future__ import annotations

import os
import socket
import time

import pytest

from netlab.kernel import stamps


def test_a_packet_read_late_bears_the_time_at_which_it_came():
    sock = stamps.keep()
    assert sock is not None
    with sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", sock.getsockname())
        sent = time.time_ns()
        time.sleep(0.05)
        assert stamps._stamp(sock) <= sent


@pytest.mark.root
def test_without_a_loopback_there_is_nothing_to_find_out_with():
    from netlab.kernel import netns

    fd = netns.new_netns()
    with netns.inside(fd):
        assert stamps.keep() is None
    os.close(fd)
