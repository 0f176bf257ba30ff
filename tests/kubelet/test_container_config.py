"""A container's spec in the runtime's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from netlab.kubelet.container_config import Place, container_config, quality
from netlab.kubelet.images import pull_policy
from netlab.runtime.cri import Mount
from tests.kubelet.builders import a_container, a_pod

PLACE = Place(attempt=2, log=Path("/log/2.log"), message=Path("/m/2"), hosts=Path("/h"), memory=1 << 30)


def made(wanted: dict[str, Any], place: Place = PLACE, **fields: Any) -> Any:
    return container_config(a_pod(wanted, **fields), wanted, {"WHO": "me", "A": "1"}, place)


def test_words_are_expanded_and_files_are_mounted() -> None:
    found = made(a_container(command=["run", "$(WHO)"], args=["$(NO)", "$$(A)"], workingDir="/w"))
    assert (found.command, found.args, found.working_dir, found.attempt) == (("run", "me"), ("$(NO)", "$(A)"), "/w", 2)
    assert {m.container_path: m.host_path for m in found.mounts} == {"/dev/termination-log": "/m/2", "/etc/hosts": "/h"}


def test_own_mounts_win() -> None:
    place = Place(0, Path("/l"), Path("/m"), Path("/h"), (Mount(container_path="/etc/hosts", host_path="/mine"),))
    found = made(a_container(terminationMessagePath="/tmp/last"), place)
    assert {m.container_path: m.host_path for m in found.mounts} == {"/tmp/last": "/m", "/etc/hosts": "/mine"}


@pytest.mark.parametrize(("requests", "limits", "shares", "quota", "memory", "score"), [
    ({}, {}, 2, 0, 0, 1000),
    ({"cpu": "250m", "memory": "256Mi"}, {}, 256, 0, 0, 750),
    ({}, {"cpu": "500m", "memory": "64Mi"}, 512, 50_000, 64 << 20, -997),
    ({"cpu": "100m", "memory": "64Mi"}, {"cpu": "1m"}, 102, 1000, 0, 938),
])
def test_resources(requests: dict[str, str], limits: dict[str, str], shares: int, quota: int, memory: int, score: int) -> None:
    found = made(a_container(resources={"requests": requests, "limits": limits})).resources
    assert (found.cpu_shares, found.cpu_quota, found.memory_limit, found.oom_score_adj) == (shares, quota, memory, score)


def test_quality_is_the_api_servers_word_if_there_is_one() -> None:
    assert quality(a_pod(status={"qosClass": "Guaranteed"})) == "Guaranteed"
    assert quality(a_pod()) == "BestEffort"


def test_security() -> None:
    found = made(a_container(securityContext={"runAsUser": 5, "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
                                              "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True}),
                 securityContext={"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4, 3]}).security
    assert (found.run_as_user, found.run_as_group, found.supplemental_groups) == (5, 2, (4, 3))
    assert (found.add_capabilities, found.drop_capabilities) == (("NET_ADMIN",), ("ALL",))
    assert (found.no_new_privs, found.readonly_rootfs, found.privileged) == (True, True, False)


@pytest.mark.parametrize(("user", "image_user", "refused"), [
    (None, "", "image will run as root"), (None, "0:0", "image will run as root"), (None, "app", "non-numeric user (app)"),
    (0, "7", "breaks non-root policy"), (None, "7:7", ""), (9, "root", ""),
])
def test_run_as_non_root(user: int | None, image_user: str, refused: str) -> None:
    place = Place(0, Path("/l"), Path("/m"), image_user=image_user)
    context = {"runAsNonRoot": True, **({} if user is None else {"runAsUser": user})}
    if not refused:
        assert made(a_container(), place, securityContext=context)
        return
    with pytest.raises(ValueError, match="root") as raised:
        made(a_container(), place, securityContext=context)
    assert refused in str(raised.value)


@pytest.mark.parametrize(("image", "policy"), [
    ("web", "Always"), ("web:latest", "Always"), ("web:1", "IfNotPresent"), ("host:5000/web", "Always"),
    ("host:5000/web:1", "IfNotPresent"), ("web@sha256:0", "IfNotPresent"),
])
def test_pull_policy(image: str, policy: str) -> None:
    assert pull_policy({"image": image}) == policy
    assert pull_policy({"image": image, "imagePullPolicy": "Never"}) == "Never"
