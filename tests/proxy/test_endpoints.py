from __future__ import annotations

import pytest

from netlab.proxy.endpoints import merged, service_of, slice_endpoints
from netlab.proxy.services import ignored
from netlab.proxy.tracker import wanted_for
from tests.proxy.builders import a_service, a_settings, a_slice, an_endpoint

PORT = ("http", "tcp")


def texts(*slices, port=PORT, family="IPv4") -> list[str]:
    return [each.text for each in merged([slice_endpoints(each, family) for each in slices], port)]


def test_endpoints_come_sorted_by_their_text():
    assert texts(a_slice(endpoints=[an_endpoint("10.244.1.9"), an_endpoint("10.244.1.10")])) == [
        "10.244.1.10:8080", "10.244.1.9:8080"]


def test_ports_are_told_by_name_and_protocol():
    both = a_slice(ports=[{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns", "port": 5353, "protocol": "TCP"}])
    assert texts(both, port=("dns", "udp")) == ["10.244.1.5:53"]
    assert texts(both, port=("dns", "tcp")) == ["10.244.1.5:5353"]
    assert texts(both) == []


@pytest.mark.parametrize("port", [{"name": "http"}, {"name": "http", "port": None}, {"name": "http", "port": 0}])
def test_ports_without_a_number_are_ignored(port):
    assert texts(a_slice(ports=[port])) == []


def test_only_the_first_address_counts():
    assert texts(a_slice(endpoints=[{"addresses": ["10.244.1.5", "10.244.1.6"]}])) == ["10.244.1.5:8080"]


def test_families():
    v6 = a_slice(family="IPv6", endpoints=[an_endpoint("fd00::5")])
    assert texts(v6) == []
    assert texts(v6, family="IPv6") == ["[fd00::5]:8080"]
    assert texts(a_slice(family="FQDN", endpoints=[an_endpoint("example.com")])) == []


@pytest.mark.parametrize(("conditions", "expected"), [
    ({}, (True, True, False)), ({"ready": False}, (False, True, False)), ({"ready": True, "serving": False}, (True, False, False)),
    ({"ready": False, "serving": True, "terminating": True}, (False, True, True))])
def test_absent_conditions(conditions, expected):
    (found,) = slice_endpoints(a_slice(endpoints=[an_endpoint("10.244.1.5", **conditions)]), "IPv4")[PORT]
    assert (found.ready, found.serving, found.terminating) == expected


@pytest.mark.parametrize("turn", [1, -1])
def test_of_two_entries_the_one_that_stays_wins(turn: int):
    slices = [a_slice(name="a", endpoints=[an_endpoint("10.244.1.5", ready=False, serving=True, terminating=True)]),
              a_slice(name="b", endpoints=[an_endpoint("10.244.1.5", ready=True)])][::turn]
    (found,) = merged([slice_endpoints(each, "IPv4") for each in slices], PORT)
    assert found.ready


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize(("more", "less"), [
    ({"terminating": True, "ready": False}, {"terminating": True, "ready": False, "serving": False}),
    ({"ready": True}, {"ready": False, "serving": True}), ({"ready": False, "serving": True}, {"ready": False, "serving": False})])
def test_the_order_of_slices_does_not_matter(turn: int, more, less):
    slices = [a_slice(name=name, endpoints=[an_endpoint("10.244.1.5", **conditions)]) for name, conditions in (("a", more), ("b", less))]
    (found,) = merged([slice_endpoints(each, "IPv4") for each in slices[::turn]], PORT)
    assert (found.ready, found.serving) == (more.get("ready", True), more.get("serving", True))


def test_a_slice_labelled_headless_is_left_out_and_a_service_so_labelled_is_not():
    """As upstream since v1.36, whose end-to-end test labels the slices."""
    labelled = a_slice()
    labelled["metadata"]["labels"]["service.kubernetes.io/headless"] = ""
    assert service_of(labelled) == ""
    assert not ignored(a_service(labels={"service.kubernetes.io/headless": ""}))
    rules = wanted_for([a_service(), labelled], a_settings()).shared()["filter", "KUBE-SERVICES"]
    assert [rule.target for rule in rules] == ["REJECT"]


def test_a_slice_without_the_label_is_nobodys():
    orphan = a_slice()
    orphan["metadata"]["labels"] = {}
    assert service_of(orphan) == ""
    assert service_of(a_slice("web")) == "default/web"
