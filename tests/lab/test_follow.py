"""`netlab trace` in a lab: by name, and following what others do, until Ctrl-C."""

from __future__ import annotations

import json
import signal

import pytest

pytestmark = pytest.mark.lab


def test_a_name_is_resolved_from_the_pod(netlab, services):
    lab, _ = services
    trace = json.loads(netlab("trace", "pod/client", "web", "-o", "json", "--name", lab).stdout)
    assert [part["role"] for part in trace["parts"]] == ["resolution"]
    assert trace["parts"][0]["words"].startswith("web.default.svc.cluster.local A → 10.96.")
    assert trace["parts"][0]["trace"]["outcome"]["endpointPlace"].startswith("pod/kube-system/coredns-")
    assert trace["outcome"]["status"] == "connected"
    assert trace["outcome"]["answer"].startswith("HTTP/1.1 200")
    assert any("FIN" in packet["what"] for packet in trace["packets"])


def test_following_a_service_until_ctrl_c(netlab, services):
    lab, _ = services
    following = netlab.start("trace", "--follow", "svc/web", "-o", "json", "--name", lab)
    try:
        assert following.stdout.readline() == b"following; Ctrl-C ends it\n"
        netlab("exec", "pod/client", "--name", lab, "--", "wget", "-qO-", "web/hostname")
        flow = json.loads(following.stdout.readline())
        assert (flow["sourceName"], flow["destinationName"], flow["status"]) == \
            ("pod/default/client", "svc/default/web:80", "connected")
        assert flow["endpointName"].startswith("pod/default/web-")
        following.send_signal(signal.SIGINT)
        end = json.loads(following.stdout.readline())
        assert (end["schema"], end["shown"], end["lost"]) == ("netlab.flow-end/v1", 1, {"frames": 0, "rules": 0, "drops": 0})
        assert following.wait(20) == 0
    finally:
        following.kill()
        following.wait()
    assert "netlab-trace" not in netlab("exec", "-T", "node/worker1", "--name", lab, "--", "nft", "list", "tables").stdout


def test_a_node_is_followed_by_the_address_that_its_pods_see_as_well(netlab, services):
    """The kubelet's probes come from its bridge."""
    lab, _ = services
    done = netlab("trace", "--follow", "node/worker1", "-l", "app=web", "--count", "1", "--duration", "30", "-o", "json", "--name", lab)
    flow = next(json.loads(line) for line in done.stdout.splitlines() if "netlab.flow/" in line)
    assert (flow["sourceName"], flow["source"].rpartition(":")[0]) == ("node/worker1", "10.244.1.1")


def test_what_cannot_be_followed_is_said(netlab, services):
    lab, _ = services
    for words, said in ((("svc/nosuch",), "no Service nosuch"), (("-l", "no=such"), "no Pod with an address has the labels"),
                        (("--sample", "3"), "no share"), (("what",), "nothing that can be followed")):
        done = netlab("trace", "--follow", *words, "--name", lab, check=False)
        assert done.returncode != 0
        assert said in done.stderr
        assert "Traceback" not in done.stderr
