from __future__ import annotations

import pytest

from netlab.proxy import names


@pytest.mark.parametrize(("port", "protocol", "hashed"), [
    ("ns1/svc1:p80", "tcp", "XPGD46QRK7WJZT7O"), ("default/kubernetes:https", "tcp", "NPX46M4PTMTKRN6Y"),
    ("kube-system/kube-dns:dns", "udp", "TCOU7JCQXEZGVUNU"), ("kube-system/kube-dns:dns-tcp", "tcp", "ERIFXISQEP7F7OF4"),
    ("kube-system/kube-dns:metrics", "tcp", "JD5MR3NA4I4DYORP"),
])
def test_hashes_are_kube_proxys(port: str, protocol: str, hashed: str):
    assert names.digest(port + protocol) == hashed


def test_endpoint_chain():
    assert names.endpoint_chain("ns1/svc1:p80", "tcp", "10.180.0.1:80") == "KUBE-SEP-SXIVWICOYRO3J4NJ"
    assert len(names.endpoint_chain("n/s", "sctp", "[fd00::1]:80")) <= 28
