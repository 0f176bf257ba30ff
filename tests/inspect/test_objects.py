from __future__ import annotations

import pytest

from netlab.errors import ManifestError, UsageError
from netlab.inspect import offline
from netlab.inspect.objects import read
from tests.proxy.builders import a_node, a_service, a_slice, recorded

GOOD = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIP: 10.96.0.1
  ports:
  - port: 80
"""


def test_documents_lists_and_arrays():
    assert [each["kind"] for each in read(GOOD + "---\n---\n" + GOOD, "f")] == ["Service", "Service"]
    assert len(read("kind: List\napiVersion: v1\nitems:\n- {kind: Node, metadata: {name: a}}\n- {kind: Node, metadata: {name: b}}\n", "f")) == 2
    assert len(read('[{"kind": "Node", "metadata": {"name": "a"}}]', "f")) == 1
    assert len(read(recorded("objects-as-served.json"), "f")) == 22
    assert read("", "f") == []


def test_a_namespace_is_filled_in():
    assert read(GOOD, "f")[0]["metadata"]["namespace"] == "default"


@pytest.mark.parametrize(("change", "line", "field", "words"), [
    (("port: 80", 'port: "http"'), 8, "spec.ports[0].port", "want a port from 1 to 65535, got 'http'"),
    (("port: 80", "port: 80\n    nodePort: 99999"), 9, "spec.ports[0].nodePort", "got 99999"),
    (("10.96.0.1", "web.example"), 6, "spec.clusterIP", "want an IP address"),
    (("  - port: 80", "    port: 80"), 8, "spec.ports", "want a list, got an object"),
    (("  ports:", "  externalTrafficPolicy: local\n  ports:"), 7, "spec.externalTrafficPolicy", "want one of Cluster, Local"),
    (("metadata: {name: web}", "metadata: {}"), 2, "metadata.name", "Service without a name"),
    (("kind: Service\n", ""), 2, "kind", "needs apiVersion and kind"),
])
def test_errors_name_file_document_line_and_field(change, line: int, field: str, words: str):
    with pytest.raises(ManifestError) as caught:
        read(GOOD.replace(*change), "web.yaml")
    assert (caught.value.file, caught.value.line, caught.value.field) == ("web.yaml", line, field)
    assert words in str(caught.value)
    assert "document 1" in str(caught.value)


def test_the_second_document_s_lines_are_the_file_s():
    with pytest.raises(ManifestError) as caught:
        read(GOOD + "---" + GOOD.replace("80", "0"), "f")
    assert caught.value.line == 16
    assert "document 2" in str(caught.value)


def test_an_item_of_a_list_has_its_own_line():
    text = "kind: List\nitems:\n- kind: Node\n  metadata: {name: a}\n- kind: Node\n  metadata: {name: b}\n  status:\n    addresses: 5\n"
    with pytest.raises(ManifestError) as caught:
        read(text, "f")
    assert caught.value.line == 8


@pytest.mark.parametrize("text", ["a: [", "- a\n- b", "just words", "\t- x: y: z"])
def test_what_holds_no_objects_is_refused(text: str):
    with pytest.raises(ManifestError):
        read(text, "f")


def test_doubts_are_told():
    found = offline.render([a_service("a", ip=""), a_service("b"), a_service("c", ip="None"), a_service("d"), a_slice("d"), a_node()],
                           ["--hostname-override=node1"])
    assert [text.split()[1] for text in found.warnings] == ["default/a", "default/b"]


def test_no_service_at_all():
    with pytest.raises(UsageError, match="no Service"):
        offline.render([a_node()], [])
