"""Line for line what kube-proxy v1.36 wrote in nftables mode for the same objects (tests/golden/kube-proxy)."""

from __future__ import annotations

import pytest

from netlab.proxy import nft_render
from netlab.proxy.nft_render import nft_wanted_for
from tests.proxy.builders import NODE_IP, a_settings, recorded, recorded_objects
from tests.proxy.nft_compare import tables

V4 = {"service_cidrs": ("10.96.0.0/16",), "node_port_addresses": (f"{NODE_IP}/32",),
      "node_addresses": ("127.0.0.1", NODE_IP)}
V6 = {"family": "IPv6", "node_ip": "", "detector": type(a_settings().detector)()}


@pytest.mark.parametrize(("table", "settings"), [("table ip kube-proxy", V4), ("table ip6 kube-proxy", V6)])
def test_the_table_equals_the_recording(table: str, settings):
    theirs = tables(recorded("nft-ruleset.txt"))[table]
    ours = tables(nft_render.text(nft_wanted_for(recorded_objects(), a_settings(**settings))))[table]
    assert ours.keys() == theirs.keys()
    for name, section in theirs.items():
        assert ours[name] == section, name


def test_the_same_objects_in_any_order_give_the_same_table():
    objects = recorded_objects()
    first, second = (tables(nft_render.text(nft_wanted_for(each, a_settings(**V4)))) for each in (objects, objects[::-1]))
    assert first == second
