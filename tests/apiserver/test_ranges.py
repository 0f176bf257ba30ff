"""ServiceCIDRs and IPAddresses: where cluster IPs come from, and whose they are."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import Any

import pytest

from netlab.apiserver.allocator import Addresses, Full, OutOfRange, Pool, Taken
from tests.apiserver.conftest import Client

RANGES, ADDRESSES = "/apis/networking.k8s.io/v1/servicecidrs", "/apis/networking.k8s.io/v1/ipaddresses"


def eventually(true: Callable[[], Any], seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def service(client: Client, ns: str, name: str, **spec: Any) -> Any:
    return client.post(f"/api/v1/namespaces/{ns}/services", {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}], **spec}})


def test_the_servers_own_range_is_there(client: Client) -> None:
    found = eventually(lambda: (one := client.get(f"{RANGES}/kubernetes").json) and one.get("status") and one)
    assert found["spec"]["cidrs"] == ["10.96.0.0/16"]
    assert found["status"]["conditions"][0]["type"] == "Ready"
    assert found["status"]["conditions"][0]["status"] == "True"
    assert eventually(lambda: client.get(f"{ADDRESSES}/10.96.0.1").status == 200)


def test_an_address_tells_whose_it_is(client: Client, ns: str) -> None:
    address = service(client, ns, "web").json["spec"]["clusterIP"]
    found = eventually(lambda: (answer := client.get(f"{ADDRESSES}/{address}")).status == 200 and answer.json)
    assert found["spec"]["parentRef"] == {"group": "", "resource": "services", "namespace": ns, "name": "web"}
    assert found["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"] == "IPv4"
    client.delete(f"/api/v1/namespaces/{ns}/services/web")
    eventually(lambda: client.get(f"{ADDRESSES}/{address}").status == 404)


def test_an_address_of_somebody_else_is_not_handed_out(client: Client, ns: str) -> None:
    assert client.post(ADDRESSES, {"metadata": {"name": "10.96.7.7"}, "spec": {"parentRef": {
        "group": "example.com", "resource": "gateways", "name": "g"}}}).status == 201
    eventually(lambda: service(client, ns, "w", clusterIP="10.96.7.7").status == 422 or not client.delete(f"/api/v1/namespaces/{ns}/services/w"))
    client.delete(f"{ADDRESSES}/10.96.7.7")
    eventually(lambda: service(client, ns, "w", clusterIP="10.96.7.7").status == 201)


def test_a_range_is_added_and_taken_away(client: Client, ns: str) -> None:
    assert service(client, ns, "early", clusterIP="172.31.5.5").status == 422
    assert client.post(RANGES, {"metadata": {"name": "more"}, "spec": {"cidrs": ["172.31.5.0/28"]}}).status == 201
    eventually(lambda: service(client, ns, "late", clusterIP="172.31.5.5").status == 201)
    eventually(lambda: client.get(f"{ADDRESSES}/172.31.5.5").status == 200)
    eventually(lambda: client.get(f"{RANGES}/more").json["metadata"].get("finalizers"))
    client.delete(f"{RANGES}/more")
    going = eventually(lambda: (one := client.get(f"{RANGES}/more").json)["status"]["conditions"][0]["status"] == "False" and one)
    assert "There are still IPAddresses referencing the ServiceCIDR" in going["status"]["conditions"][0]["message"]
    assert service(client, ns, "no", clusterIP="172.31.5.6").status == 422
    client.delete(f"/api/v1/namespaces/{ns}/services/late")
    eventually(lambda: client.get(f"{RANGES}/more").status == 404)


def test_addresses_survive_a_restart(servers: Any) -> None:
    server = servers()
    client = server.client()
    client.post(RANGES, {"metadata": {"name": "more"}, "spec": {"cidrs": ["172.31.6.0/28"]}})
    eventually(lambda: service(client, "default", "a", clusterIP="172.31.6.3").status == 201)
    assert server.stop() == 0
    server.start()
    client = server.client()
    assert service(client, "default", "b", clusterIP="172.31.6.3").status == 422
    assert service(client, "default", "c", clusterIP="172.31.6.4").status == 201
    assert "172.31.6.3" not in server.log.read_text()


def test_a_full_range_gives_way_to_the_next() -> None:
    pool = Pool(Addresses(ipaddress.ip_network("10.0.0.0/29")))
    got = {pool.pick() for _ in range(6)}
    assert len(got) == 6
    with pytest.raises(Full):
        pool.pick()
    assert pool.add(Addresses(ipaddress.ip_network("10.1.0.0/29")))
    assert not pool.add(Addresses(ipaddress.ip_network("10.1.0.0/29")))
    assert pool.pick().startswith("10.1.0.")
    pool.drop(ipaddress.ip_network("10.1.0.0/29"))
    with pytest.raises(OutOfRange):
        pool.take("10.1.0.1")


def test_overlapping_ranges_give_an_address_once() -> None:
    pool = Pool(Addresses(ipaddress.ip_network("10.0.0.0/29")))
    pool.add(Addresses(ipaddress.ip_network("10.0.0.0/28")))
    pool.take("10.0.0.2")
    with pytest.raises(Taken):
        pool.take("10.0.0.2")
    got = [pool.pick() for _ in range(13)]
    assert len(set(got)) == 13
    assert "10.0.0.2" not in got
