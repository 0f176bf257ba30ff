"""A userspace proxy in a trace: the REDIRECT, and the proxy's own connection as a part of it."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from importlib import resources

import jsonschema
import pytest

from netlab.kernel import netns
from netlab.trace.craft import Craft
from netlab.trace.document import as_json
from netlab.trace.render import as_text
from netlab.trace.run import Request, trace
from tests.trace.topology import Network

pytestmark = pytest.mark.root
PORTALS = ("iptables -t nat -N KUBE-PORTALS-CONTAINER; iptables -t nat -I PREROUTING -j KUBE-PORTALS-CONTAINER; "
           "iptables -t nat -A KUBE-PORTALS-CONTAINER -m comment --comment default/web:http -p tcp --dport 80 "
           "-d 10.96.0.30 -j REDIRECT --to-ports 40000")


def _listening(network: Network) -> socket.socket:
    """Return a listener on the port of node1 that PORTALS sends to."""
    listener = netns.socket_in(network.places["node/node1"])
    listener.bind(("0.0.0.0", 40000))
    listener.listen()
    network.stops.append(listener)
    return listener


def _beside(network: Network, run: Callable[[], None]) -> None:
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    network.threads.append(thread)


def relay(network: Network, endpoint: tuple[str, int], *, after: float = 0) -> None:
    """Accept one connection on node1 and, after some seconds, carry its bytes to an endpoint, as the userspace mode does."""
    listener = _listening(network)

    def serve() -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # shut down
            return
        time.sleep(after)
        with client, netns.socket_in(network.places["node/node1"]) as backend:
            if backend.connect_ex(endpoint) == 0:
                client.recv(100)

    _beside(network, serve)


@pytest.mark.parametrize("after", [0, 0.2])
def test_the_proxys_connection_is_linked(network: Network, after: float) -> None:
    network.serve("pod/default/web-2", 8080)
    network.sh("node/node1", PORTALS)
    network.sh("pod/default/client", "ping -c 1 -W 5 10.244.2.3")
    relay(network, ("10.244.2.3", 8080), after=after)
    result = trace(Request("pod/default/client", "10.96.0.30", 80), network.taps(), network.names())
    assert [hop.text.split(" ")[0] for hop in result.request if hop.kind == "nat"] == ["DNAT"]
    assert (result.request[-1].kind, result.request[-1].place) == ("deliver", "node/node1")
    (part,) = result.parts
    assert (part.role, part.trace.source, part.trace.destination) == ("proxied", "node/node1", "10.244.2.3:8080")
    assert part.trace.outcome.status == "connected"
    assert part.trace.request[-1].place == "pod/default/web-2"
    assert (result.outcome.endpoint, result.outcome.endpoint_place) == ("10.244.2.3:8080", "pod/default/web-2")
    schema = json.loads((resources.files("netlab") / "docs" / "trace.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(json.loads(json.dumps(as_json(result))))
    assert "PROXIED  kube-proxy on node/node1" in as_text(result)


def test_an_endpoint_that_refuses_the_proxy_is_told(network: Network) -> None:
    network.sh("node/node1", PORTALS)
    network.sh("pod/default/client", "ping -c 1 -W 5 10.244.2.3")
    relay(network, ("10.244.2.3", 81))
    result = trace(Request("pod/default/client", "10.96.0.30", 80), network.taps(), network.names())
    assert result.outcome.status == "connected"  # with the proxy
    assert result.warnings == (("the proxy's own connection: refused at pod/default/web-2: pod/default/web-2 answered with "
                               "a reset: nothing listens on 10.244.2.3:81"),)


def test_a_connection_that_the_proxy_never_had_is_linked_to_none(network: Network) -> None:
    """A handshake that its answer cannot end, while the node asks an endpoint for itself, as a kubelet's probe does."""
    network.serve("pod/default/web-2", 8080)
    network.sh("node/node1", PORTALS)
    network.sh("pod/default/client", "ping -c 1 -W 5 10.244.2.3")
    relay(network, ("10.244.2.3", 8080))
    over = threading.Event()

    def probe() -> None:
        while not over.wait(0.05):
            with netns.socket_in(network.places["node/node1"]) as sock:
                sock.connect_ex(("10.244.2.3", 8080))

    thread = threading.Thread(target=probe, daemon=True)
    thread.start()
    try:
        made = Request("pod/default/client", "10.96.0.30", 80, timeout=1, source_address="198.51.100.9",
                       craft=Craft())
        result = trace(made, network.taps(), network.names())
    finally:
        over.set()
        thread.join()
    assert (result.request[-1].place, result.parts) == ("node/node1", ())


def test_what_a_node_asks_after_the_proxy_ended_the_connection_is_its_own(network: Network) -> None:
    """A kubelet's probe of another Service's Pod, say, while a Service without endpoints is asked."""
    network.serve("pod/default/web-2", 8080)
    network.sh("node/node1", PORTALS)
    network.sh("pod/default/client", "ping -c 1 -W 5 10.244.2.3")
    listener = _listening(network)

    def end() -> None:
        client, _ = listener.accept()
        client.close()
        time.sleep(0.01)
        with netns.socket_in(network.places["node/node1"]) as probe:
            probe.connect_ex(("10.244.2.3", 8080))

    _beside(network, end)
    result = trace(Request("pod/default/client", "10.96.0.30", 80), network.taps(), network.names())
    assert (result.outcome.status, result.parts) == ("connected", ())


def test_a_proxy_that_ends_the_connection_without_one_of_its_own_is_told(network: Network) -> None:
    network.sh("node/node1", PORTALS)
    listener = _listening(network)

    def end() -> None:
        client, _ = listener.accept()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()

    _beside(network, end)
    result = trace(Request("pod/default/client", "10.96.0.30", 80, payload=b"hello"), network.taps(), network.names())
    assert result.warnings == (
        "kube-proxy on node/node1 took the connection and ended it: has the Service an endpoint that is ready?",), result


def test_without_a_proxy_nothing_is_linked(network: Network) -> None:
    network.serve("pod/default/web-2", 8080)
    result = trace(Request("pod/default/client", "10.96.0.10", 80), network.taps(), network.names())
    assert result.parts == ()


def test_a_nodes_own_datagram_is_passed_on_once(network: Network) -> None:
    """Both datagrams begin at the node and carry the same: nobody passes on what was passed on."""
    network.serve("pod/default/web-2", 5353, socket.SOCK_DGRAM)
    network.sh("node/node1", "iptables -t nat -N KUBE-PORTALS-HOST; iptables -t nat -I OUTPUT -j KUBE-PORTALS-HOST; "
               "iptables -t nat -A KUBE-PORTALS-HOST -p udp --dport 53 -d 10.96.0.30 -j DNAT --to-destination 172.18.0.2:40000")
    network.sh("pod/default/client", "ping -c 1 -W 5 10.244.2.3")
    listener = netns.socket_in(network.places["node/node1"], socket.AF_INET, socket.SOCK_DGRAM)
    listener.bind(("0.0.0.0", 40000))
    network.stops.append(listener)

    def serve() -> None:
        data, peer = listener.recvfrom(2048)
        if peer is None:
            return
        with netns.socket_in(network.places["node/node1"], socket.AF_INET, socket.SOCK_DGRAM) as backend:
            backend.connect(("10.244.2.3", 5353))
            backend.send(data)
            backend.settimeout(5)
            listener.sendto(backend.recv(2048), peer)

    _beside(network, serve)
    result = trace(Request("node/node1", "10.96.0.30", 53, "udp", payload=b"hello"), network.taps(), network.names())
    assert result.outcome.status == "replied"
    assert [(part.role, part.trace.destination, part.trace.parts) for part in result.parts] == [
        ("proxied", "10.244.2.3:5353", ())]
