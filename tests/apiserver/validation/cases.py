"""A small Pod to change, and what the checks say of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

from netlab.api import kinds
from netlab.apiserver.strategies.pod import PodStrategy, PodTemplateStrategy
from netlab.apiserver.validation.errors import FieldError, invalid

Object = dict[str, Any]
PODS = PodStrategy(kinds.resource("pods"))
TEMPLATES = PodTemplateStrategy(kinds.resource("podtemplates"))


def texts(errors: Iterable[FieldError]) -> list[str]:
    return [str(error) for error in errors]


def bad(field: str, value: Any, form: Callable[[Any], list[str]]) -> list[str]:
    """What a form of names says of a value at a field."""
    found = texts(invalid(field, value, said) for said in form(value))
    assert found, f"{value!r} has that form"
    return found


def a_pod(metadata: Object | None = None, **spec: Any) -> Object:
    """A Pod with its defaults; `spec` replaces parts."""
    pod = {
        "metadata": {"name": "p", "namespace": "n", **(metadata or {})},
        "spec": {"containers": [{"name": "c", "image": "i"}], "serviceAccountName": "a", **spec},
    }
    pod = copy.deepcopy(pod)
    PODS.default(pod)
    PODS.prepare_create(pod)
    return pod


def pod(metadata: Object | None = None, **spec: Any) -> list[str]:
    return texts(PODS.validate(a_pod(metadata, **spec)))


def template(metadata: Object | None = None, **spec: Any) -> list[str]:
    obj = {
        "metadata": {"name": "t", "namespace": "n"},
        "template": {"metadata": metadata or {}, "spec": {"containers": [{"name": "c", "image": "i"}], **spec}},
    }
    obj = copy.deepcopy(obj)
    TEMPLATES.default(obj)
    return texts(TEMPLATES.validate(obj))


def container(spec: Object | None = None, **changes: Any) -> list[str]:
    """What is wrong with a Pod whose container is changed; paths begin after the container's."""
    found = pod(containers=[{"name": "c", "image": "i", **changes}], **(spec or {}))
    return [text.removeprefix("spec.containers[0].") for text in found]
