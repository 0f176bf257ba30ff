"""Where an object and its fields were written down."""

from __future__ import annotations

import pytest
import yaml

from netlab.lab import documents

TEXT = """\
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  ports:
  - port: 80
  - name: b
    port: 99999
---
---
apiVersion: v1
kind: List
items:
- kind: ConfigMap
  data:
    a: b
"""


@pytest.mark.parametrize(("field", "line"), [
    ("", 1), ("spec.ports[0].port", 6), ("spec.ports[1].port", 8), ("spec.ports[1].targetPort", 7), ("spec.ports[7]", 5),
    ("metadata.name", 3), ("status", 1)])
def test_the_line_of_a_field_or_of_what_is_around_it(field, line):
    service, _ = documents.load(TEXT, "a.yaml")
    assert (service.file, service.line_of(field)) == ("a.yaml", line)


def test_a_list_is_taken_apart_and_empty_documents_are_dropped():
    service, config = documents.load(TEXT, "a.yaml")
    assert service["spec"]["ports"][1]["port"] == 99999
    assert dict(config) == {"kind": "ConfigMap", "data": {"a": "b"}}
    assert (config.line_of(), config.line_of("data.a")) == (14, 16)


def test_what_is_no_yaml_is_told():
    with pytest.raises(yaml.MarkedYAMLError):
        documents.load("a: [1\nb: 2\n", "a.yaml")
