"""`netlab request`: the audit log of a lab, read."""

from __future__ import annotations

import json

import pytest

from netlab.lab.requests import read
from tests.lab.labs import eventually

pytestmark = [pytest.mark.root, pytest.mark.lab]


def test_a_request_is_followed(netlab, services):
    name, _ = services
    netlab("kubectl", "--name", name, "run", "followed", "--image=netlab/agnhost", "--restart=Never", "--", "pause")

    def listed():
        return json.loads(netlab("request", "--name", name, "--resource", "pods default/followed", "-o", "json").stdout or "[]")

    try:
        eventually(lambda: any(row["user"].startswith("system:node:") for row in listed()), "the kubelet's write is logged")
        rows = listed()
        made = next(row for row in rows if row["verb"] == "create" and row["object"] == "pods default/followed")
        assert made["user"] == "kubernetes-admin"
        assert "ServiceAccount" in made["admission"]["changed"]
        assert any(row["user"] == "system:kube-scheduler" and "(binding)" in row["object"] for row in rows)
        text = netlab("request", "--name", name, made["id"][:13]).stdout
        assert "who          kubernetes-admin" in text
        assert "admission    ServiceAccount changed" in text
        assert f"stored       as revision {made['revision']}" in text
        netlab("kubectl", "--name", name, "delete", "pod", "followed", "--as=jane", check=False)
        acted = json.loads(netlab("request", "--name", name, "--user=jane", "-o", "json").stdout)[-1]
        assert (acted["user"], acted["impersonated"]["user"], acted["code"]) == ("kubernetes-admin", "jane", 403)
        assert "taken for    jane (system:authenticated)" in netlab("request", "--name", name, acted["id"]).stdout
        missing = netlab("request", "--name", name, "nosuchid", check=False)
        assert missing.returncode == 1
        assert "`netlab request` lists the last ones" in missing.stderr
        refused = netlab("kubectl", "--name", name, "run", "x", "--image=x", "-n", "nowhere", check=False)
        assert refused.returncode == 1
        failed = json.loads(netlab("request", "--name", name, "--failed", "-o", "json").stdout)
        assert failed[-1]["admission"]["refusedBy"] == "NamespaceLifecycle"
    finally:
        netlab("kubectl", "--name", name, "delete", "pod", "followed", "--now")


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"stage": "ResponseComplete"}', b"\xff\xfe"])
def test_lines_that_are_none(line):
    assert read(line, "n") is None
