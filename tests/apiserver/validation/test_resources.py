"""What containers and Pods ask for."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.apiserver.validation import names
from tests.apiserver.validation.cases import a_pod, bad, container, pod


def asked(requests: dict[str, Any] | None = None, limits: dict[str, Any] | None = None, **more: Any) -> list[str]:
    found = container(resources={"requests": requests or {}, "limits": limits or {}, **more})
    return [text.removeprefix("resources.") for text in found]


CLAIMS = {"resourceClaims": [{"name": "a", "resourceClaimName": "x"}, {"name": "b", "resourceClaimTemplateName": "y"}]}


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (
            asked({"cpu": "2"}, {"cpu": "1"}),
            ['requests: Invalid value: "2": must be less than or equal to cpu limit of 1'],
        ),
        (asked({"cpu": "-1"}), ['requests[cpu]: Invalid value: "-1": must be greater than or equal to 0']),
        (
            asked({"gpu": "1"}),
            [
                'requests[gpu]: Invalid value: "gpu": must be a standard resource type or fully qualified',
                'requests[gpu]: Invalid value: "gpu": must be a standard resource for containers',
            ],
        ),
        (asked({"pods": "1"}), ['requests[pods]: Invalid value: "pods": must be a standard resource for containers']),
        (
            asked({"a b": "1"}),
            [
                *bad("requests[a b]", "a b", names.qualified_name),
                'requests[a b]: Invalid value: "a b": must be a standard resource for containers',
            ],
        ),
        (asked({"example.com/a": "1"}), ["limits: Required value: Limit must be set for non overcommitable resources"]),
        (
            asked({"example.com/a": "1"}, {"example.com/a": "2"}),
            ['requests: Invalid value: "1": must be equal to example.com/a limit of 2'],
        ),
        (
            asked({"example.com/a": "500m"}, {"example.com/a": "500m"}),
            [
                'limits[example.com/a]: Invalid value: "500m": must be an integer',
                'requests[example.com/a]: Invalid value: "500m": must be an integer',
            ],
        ),
        (
            asked({"requests.example.com/a": "1"}, {"requests.example.com/a": "1"}),
            [
                f'{part}[requests.example.com/a]: Invalid value: "requests.example.com/a": doesn\'t follow extended resource name '
                "standard"
                for part in ("limits", "requests")
            ],
        ),
        (asked({}, {"hugepages-2Mi": "4Mi"}), ["resources: Forbidden: HugePages require cpu or memory"]),
        (
            asked({}, {"cpu": "1", "hugepages-2Mi": "3Mi"}),
            [
                'limits[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi',
                'requests[hugepages-2Mi]: Invalid value: "3Mi": 3Mi is not positive integer multiple of hugepages-2Mi',
            ],
        ),
        (
            asked(claims=[{"name": "a"}]),
            ['claims[0]: Not found: "a": must be one of the names in pod.spec.resourceClaims which is empty'],
        ),
        (container(CLAIMS, resources={"claims": [{"name": "a"}, {"name": "b", "request": "r"}]}), []),
        (
            container(
                CLAIMS,
                resources={
                    "claims": [
                        {"name": ""},
                        {"name": "a"},
                        {"name": "a"},
                        {"name": "b", "request": "r"},
                        {"name": "b"},
                        {"name": "c"},
                    ]
                },
            ),
            [
                "resources.claims[0]: Required value",
                'resources.claims[2]: Duplicate value: "a"',
                'resources.claims[4]: Duplicate value: "b"',
                'resources.claims[5]: Not found: "c": must be one of the names in pod.spec.resourceClaims: a, b',
            ],
        ),
    ],
)
def test_of_containers(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def whole(resources: dict[str, Any], *containers: dict[str, Any], **spec: Any) -> list[str]:
    own = [{"name": f"c{at}", "image": "i", "resources": one} for at, one in enumerate(containers or ({},))]
    return [text.removeprefix("spec.resources") for text in pod(resources=resources, containers=own, **spec)]


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (whole({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}), []),
        (
            whole({"limits": {"ephemeral-storage": "1Gi"}}),
            [
                '.limits[ephemeral-storage]: Unsupported value: "ephemeral-storage": supported values: "cpu", "hugepages-", "memory"'
            ],
        ),
        (whole({"claims": []}), [".claims: Forbidden: claims may not be set for Resources at pod-level"]),
        (
            whole({"requests": {"cpu": "1"}}, {"requests": {"cpu": "700m"}}, {"requests": {"cpu": "700m"}}),
            [
                '.requests[cpu]: Invalid value: "1": must be greater than or equal to aggregate container requests of 1400m'
            ],
        ),
        (
            whole({"limits": {"cpu": "1"}}, {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}),
            ['.containers[0][cpu].limits: Invalid value: "2": must be less than or equal to pod limits of 1'],
        ),
        (
            whole({"limits": {"cpu": "1", "hugepages-2Mi": "2Mi"}}, {"limits": {"cpu": "1", "hugepages-2Mi": "4Mi"}}),
            [
                '.limits[hugepages-2Mi]: Invalid value: "2Mi": must be greater than or equal to aggregate container limits of 4Mi',
                '.requests[hugepages-2Mi]: Invalid value: "2Mi": must be greater than or equal to aggregate container requests of 4Mi',
                '.containers[0][hugepages-2Mi].limits: Invalid value: "4Mi": must be less than or equal to pod limits of 2Mi',
            ],
        ),
        (whole({"limits": {"cpu": "1"}}, os={"name": "windows"}), [": Forbidden: may not be set for a windows pod"]),
        (
            pod(overhead={"cpu": "-1"}),
            ['spec.overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0'],
        ),
    ],
)
def test_of_whole_pods(found: list[str], wanted: list[str]) -> None:
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize(
    ("found", "containers", "wanted"),
    [
        (
            {"limits": {"cpu": "2"}},
            [{"requests": {"cpu": "500m"}}, {"requests": {"cpu": "1"}}],
            {"limits": {"cpu": "2"}, "requests": {"cpu": "1500m"}},
        ),
        ({"limits": {"cpu": "2"}}, [{}], {"limits": {"cpu": "2"}, "requests": {"cpu": "2"}}),
        (
            {"requests": {"cpu": "2"}},
            [{"limits": {"cpu": "1"}}, {"limits": {"cpu": "3"}}],
            {"limits": {"cpu": "4"}, "requests": {"cpu": "2"}},
        ),
        ({"requests": {"cpu": "2"}}, [{"limits": {"cpu": "1"}}, {}], {"requests": {"cpu": "2"}}),
        (
            {"limits": {"cpu": "1"}},
            [{"limits": {"cpu": "1", "hugepages-2Mi": "2Mi"}}],
            {"limits": {"cpu": "1", "hugepages-2Mi": "2Mi"}, "requests": {"cpu": "1", "hugepages-2Mi": "2Mi"}},
        ),
    ],
)
def test_whole_pods_ask_for_what_their_containers_do(found: Any, containers: Any, wanted: Any) -> None:
    own = [{"name": f"c{at}", "image": "i", "resources": one} for at, one in enumerate(containers)]
    assert a_pod(resources=found, containers=own)["spec"]["resources"] == wanted


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ({"limits": {"cpu": "1", "memory": "1Gi"}}, "Guaranteed"),
        ({"requests": {"cpu": "1"}}, "Burstable"),
        ({}, "BestEffort"),
    ],
)
def test_whole_pods_have_a_class(resources: Any, wanted: str) -> None:
    assert a_pod(resources=resources)["status"]["qosClass"] == wanted


def test_amounts_are_whole_thousandths() -> None:
    pod = a_pod(containers=[{"name": "c", "image": "i", "resources": {"limits": {"cpu": "0.0001", "memory": "100n"}}}])
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "1m", "memory": "1m"}
