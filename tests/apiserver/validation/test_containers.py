"""Containers: each fragment, and all that is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.apiserver.validation import names
from tests.apiserver.validation.cases import bad, container, pod, template

REQUIRED = "Required value"
VOLUMES = {"volumes": [{"name": "v", "emptyDir": {}}, {"name": "b", "persistentVolumeClaim": {"claimName": "x"}}]}
MOUNT = {"name": "v", "mountPath": "/m"}


def ref(**source: Any) -> list[str]:
    return container(env=[{"name": "A", "valueFrom": source}])


def probe(**changes: Any) -> list[str]:
    return container(livenessProbe={"exec": {"command": ["x"]}, **changes})


def mount(**changes: Any) -> list[str]:
    return container(VOLUMES, volumeMounts=[{**MOUNT, **changes}])


def device(**changes: Any) -> list[str]:
    return container(VOLUMES, volumeDevices=[{"name": "b", "devicePath": "/d", **changes}])


GOOD: list[dict[str, Any]] = [
    {"ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81, "protocol": "SCTP"}]},
    {"ports": [{"containerPort": 80, "hostIP": "anything"}]},
    {"env": [{"name": "a b.c-1", "value": "x"}, {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "spec.host"}}}]},
    {"env": [{"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a.b/c']"}}}]},
    {"env": [{"name": "L", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}]},
    {
        "env": [
            {"name": "L", "valueFrom": {"resourceFieldRef": {"resource": "requests.hugepages-2Mi", "divisor": "1Mi"}}}
        ]
    },
    {"envFrom": [{"configMapRef": {"name": "a"}, "prefix": "P_"}, {"secretRef": {"name": "b"}}]},
    {"livenessProbe": {"grpc": {"port": 80}}, "readinessProbe": {"tcpSocket": {"port": "http"}, "successThreshold": 3}},
    {"lifecycle": {"preStop": {"sleep": {"seconds": 0}}, "postStart": {"exec": {"command": ["x"]}}}},
    {"resources": {"requests": {"cpu": "1", "example.com/a": "2"}, "limits": {"cpu": "2", "example.com/a": "2"}}},
    {"resources": {"requests": {"memory": "1Gi", "hugepages-2Mi": "4Mi"}, "limits": {"hugepages-2Mi": "4Mi"}}},
    {"resizePolicy": [{"resourceName": "cpu", "restartPolicy": "NotRequired"}]},
    {"restartPolicy": "OnFailure"},
    {
        "restartPolicy": "Never",
        "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}],
    },
]


@pytest.mark.parametrize("changes", GOOD, ids=range(len(GOOD)))
def test_good_containers(changes: dict[str, Any]) -> None:
    assert container(**changes) == []


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (pod(containers=[]), [f"spec.containers: {REQUIRED}"]),
        (container(name=""), [f"name: {REQUIRED}"]),
        (container(name="A.b"), bad("name", "A.b", names.dns_label)),
        (container(image=""), [f"image: {REQUIRED}"]),
        (container(image=" i"), ['image: Invalid value: " i": must not have leading or trailing whitespace']),
        (template(containers=[{"name": "c", "image": " "}]), []),
        (pod(containers=[{"name": "c", "image": "i"}] * 2), ['spec.containers[1].name: Duplicate value: "c"']),
        (
            container(terminationMessagePolicy="Fax"),
            ['terminationMessagePolicy: Unsupported value: "Fax": supported values: "File", "FallbackToLogsOnError"'],
        ),
        (
            container(imagePullPolicy="Maybe"),
            ['imagePullPolicy: Unsupported value: "Maybe": supported values: "Always", "IfNotPresent", "Never"'],
        ),
        (container(ports=[{"containerPort": 0}]), [f"ports[0].containerPort: {REQUIRED}"]),
        (
            container(ports=[{"containerPort": -1, "hostPort": 65536}]),
            [
                "ports[0].containerPort: Invalid value: -1: must be between 1 and 65535, inclusive",
                "ports[0].hostPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            container(ports=[{"containerPort": 1, "name": "a--b"}, {"containerPort": 2, "protocol": "tcp"}]),
            [
                'ports[0].name: Invalid value: "a--b": must not contain consecutive hyphens',
                'ports[1].protocol: Unsupported value: "tcp": supported values: "SCTP", "TCP", "UDP"',
            ],
        ),
        (
            container(ports=[{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]),
            ['ports[1].name: Duplicate value: "a"'],
        ),
        (
            container(ports=[{"containerPort": 1, "hostPort": 80}, {"containerPort": 2, "hostPort": 80}]),
            ['ports[1].hostPort: Duplicate value: "TCP//80"'],
        ),
        (
            container({"hostNetwork": True}, ports=[{"containerPort": 80, "hostPort": 81}]),
            ["ports[0].hostPort: Invalid value: 81: must match `containerPort` when `hostNetwork` is true"],
        ),
        (template(hostNetwork=True, containers=[{"name": "c", "image": "i", "ports": [{"containerPort": 80}]}]), []),
    ],
)
def test_names_images_and_ports(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


FIELDS = (
    '"metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", '
    '"status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs"'
)
AMOUNTS = (
    '"limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", '
    '"requests.memory"'
)
SIZES = "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei"
FROM = "env[0].valueFrom"


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (container(env=[{"name": ""}]), [f"env[0].name: {REQUIRED}"]),
        (container(env=[{"name": "a=b"}]), bad("env[0].name", "a=b", names.env_name)),
        (
            ref(),
            [
                (
                    f'{FROM}: Invalid value: "": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, '
                    "`secretKeyRef` or `fileKeyRef`"
                )
            ],
        ),
        (
            container(env=[{"name": "A", "value": "x", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]),
            [f'{FROM}: Invalid value: "": may not be specified when `value` is not empty'],
        ),
        (
            ref(configMapKeyRef={"name": "m", "key": "k"}, secretKeyRef={"name": "m", "key": "k"}),
            [f'{FROM}: Invalid value: "": may not have more than one field specified at a time'],
        ),
        (
            ref(configMapKeyRef={"name": "A", "key": ""}),
            [*bad(f"{FROM}.configMapKeyRef.name", "A", names.dns_subdomain), f"{FROM}.configMapKeyRef.key: {REQUIRED}"],
        ),
        (
            ref(secretKeyRef={"key": "a b"}),
            [
                *bad(f"{FROM}.secretKeyRef.name", "", names.dns_subdomain),
                *bad(f"{FROM}.secretKeyRef.key", "a b", names.config_key),
            ],
        ),
        (ref(fieldRef={"fieldPath": ""}), [f"{FROM}.fieldRef.fieldPath: {REQUIRED}"]),
        (
            ref(fieldRef={"fieldPath": "metadata.name", "apiVersion": "v2"}),
            [
                f'{FROM}.fieldRef.fieldPath: Invalid value: "metadata.name": error converting fieldPath: unsupported pod version: v2'
            ],
        ),
        (
            ref(fieldRef={"fieldPath": "metadata.whoops"}),
            [
                (
                    f'{FROM}.fieldRef.fieldPath: Invalid value: "metadata.whoops": error converting fieldPath: field label not '
                    "supported: metadata.whoops"
                )
            ],
        ),
        (
            ref(fieldRef={"fieldPath": "metadata.name['key']"}),
            [
                (
                    f"{FROM}.fieldRef.fieldPath: Invalid value: \"metadata.name['key']\": error converting fieldPath: field label does "
                    "not support subscript: metadata.name['key']"
                )
            ],
        ),
        (ref(fieldRef={"fieldPath": "metadata.labels['a b']"}), bad(f"{FROM}.fieldRef", "a b", names.qualified_name)),
        (
            ref(fieldRef={"fieldPath": "metadata.labels"}),
            [f'{FROM}.fieldRef.fieldPath: Unsupported value: "metadata.labels": supported values: {FIELDS}'],
        ),
        (
            ref(fieldRef={"fieldPath": "status.phase"}),
            [f'{FROM}.fieldRef.fieldPath: Unsupported value: "status.phase": supported values: {FIELDS}'],
        ),
        (ref(resourceFieldRef={"resource": ""}), [f"{FROM}.resourceFieldRef.resource: {REQUIRED}"]),
        (
            ref(resourceFieldRef={"resource": "limits.gpu"}),
            [f'{FROM}.resourceFieldRef.resource: Unsupported value: "limits.gpu": supported values: {AMOUNTS}'],
        ),
        (
            ref(resourceFieldRef={"resource": "limits.cpu", "divisor": "2m"}),
            [
                (
                    f'{FROM}.resourceFieldRef.divisor: Invalid value: "limits.cpu": only divisor\'s values 1m and 1 are supported with '
                    "the cpu resource"
                )
            ],
        ),
        (
            ref(resourceFieldRef={"resource": "requests.memory", "divisor": "2Mi"}),
            [
                (
                    f'{FROM}.resourceFieldRef.divisor: Invalid value: "requests.memory": only divisor\'s values {SIZES} are supported '
                    "with the memory resource"
                )
            ],
        ),
        (
            ref(resourceFieldRef={"resource": "limits.ephemeral-storage", "divisor": "1m"}),
            [
                (
                    f'{FROM}.resourceFieldRef.divisor: Invalid value: "limits.ephemeral-storage": only divisor\'s values {SIZES} are '
                    "supported with the local ephemeral storage resource"
                )
            ],
        ),
        (
            container(
                VOLUMES,
                env=[{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "a/../b", "key": ""}}}],
            ),
            [
                f"{FROM}.fileKeyRef.key: {REQUIRED}",
                f"{FROM}.fileKeyRef.path: Invalid value: \"a/../b\": must not contain '..'",
            ],
        ),
        (
            container(
                VOLUMES, env=[{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "b", "path": "a", "key": "K"}}}]
            ),
            [f'{FROM}.fileKeyRef.volumeName: Invalid value: "b": referenced volume must be of type emptyDir'],
        ),
        (
            container(
                VOLUMES, env=[{"name": "A", "valueFrom": {"fileKeyRef": {"volumeName": "w", "path": "a", "key": "K"}}}]
            ),
            [f'{FROM}.fileKeyRef.volumeName: Not found: "w"'],
        ),
        (container(envFrom=[{}]), ['envFrom: Invalid value: "": must specify one of: `configMapRef` or `secretRef`']),
        (
            container(envFrom=[{"configMapRef": {"name": ""}, "secretRef": {"name": "A"}, "prefix": "a=b"}]),
            [
                *bad("envFrom[0].prefix", "a=b", names.env_name),
                f"envFrom[0].configMapRef.name: {REQUIRED}",
                *bad("envFrom[0].secretRef.name", "A", names.dns_subdomain),
                'envFrom: Invalid value: "": may not have more than one field specified at a time',
            ],
        ),
    ],
)
def test_environment(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


LIVE = "livenessProbe"


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (container(livenessProbe={}), [f"{LIVE}: {REQUIRED}: must specify a handler type"]),
        (container(livenessProbe={"exec": {}}), [f"{LIVE}.exec.command: {REQUIRED}"]),
        (
            probe(httpGet={"port": 1}, tcpSocket={"port": 1}),
            [
                f"{LIVE}.{kind}: Forbidden: may not specify more than 1 handler type"
                for kind in ("httpGet", "tcpSocket")
            ],
        ),
        (
            container(livenessProbe={"httpGet": {"port": 0, "scheme": "FTP", "httpHeaders": [{"name": "a b"}]}}),
            [
                f"{LIVE}.httpGet.port: Invalid value: 0: must be between 1 and 65535, inclusive",
                f'{LIVE}.httpGet.scheme: Unsupported value: "FTP": supported values: "HTTP", "HTTPS"',
                *bad(f"{LIVE}.httpGet.httpHeaders", "a b", names.http_header),
            ],
        ),
        (
            container(livenessProbe={"tcpSocket": {"port": "80"}}),
            [f'{LIVE}.tcpSocket.port: Invalid value: "80": must contain at least one letter (a-z)'],
        ),
        (
            container(livenessProbe={"grpc": {"port": 65536}}),
            [f"{LIVE}.grpc.port: Invalid value: 65536: must be between 1 and 65535, inclusive"],
        ),
        (
            probe(initialDelaySeconds=-1, timeoutSeconds=-1, periodSeconds=-1, failureThreshold=-1),
            [
                f"{LIVE}.{part}: Invalid value: -1: must be greater than or equal to 0"
                for part in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "failureThreshold")
            ],
        ),
        (
            probe(successThreshold=-1),
            [
                f"{LIVE}.successThreshold: Invalid value: -1: must be greater than or equal to 0",
                f"{LIVE}.successThreshold: Invalid value: -1: must be 1",
            ],
        ),
        (
            probe(terminationGracePeriodSeconds=0),
            [f"{LIVE}.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0"],
        ),
        (
            container(readinessProbe={"exec": {"command": ["x"]}, "terminationGracePeriodSeconds": 5}),
            ["readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes"],
        ),
        (
            container(startupProbe={"exec": {"command": ["x"]}, "successThreshold": 2}),
            ["startupProbe.successThreshold: Invalid value: 2: must be 1"],
        ),
        (container(lifecycle={"preStop": {}}), [f"lifecycle.preStop: {REQUIRED}: must specify a handler type"]),
        (
            container(lifecycle={"preStop": {"sleep": {"seconds": 31}}}),
            [
                "lifecycle.preStop.sleep: Invalid value: 31: must be non-negative and less than terminationGracePeriodSeconds (30)"
            ],
        ),
        (
            container(lifecycle={"stopSignal": "SIGTERM"}),
            ["lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"],
        ),
        (container({"os": {"name": "linux"}}, lifecycle={"stopSignal": "SIGRTMIN+15"}), []),
        (
            container({"os": {"name": "windows"}}, lifecycle={"stopSignal": "SIGHUP"}),
            ['lifecycle.stopSignal: Unsupported value: "SIGHUP": supported values: "SIGKILL", "SIGTERM"'],
        ),
    ],
)
def test_probes_and_hooks(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


PROPAGATION = '"Bidirectional", "HostToContainer", "None"'


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (mount(), []),
        (mount(name=""), [f"volumeMounts[0].name: {REQUIRED}", 'volumeMounts[0].name: Not found: ""']),
        (mount(name="w"), ['volumeMounts[0].name: Not found: "w"']),
        (mount(mountPath=""), [f"volumeMounts[0].mountPath: {REQUIRED}"]),
        (
            container(VOLUMES, volumeMounts=[MOUNT, MOUNT]),
            ['volumeMounts[1].mountPath: Invalid value: "/m": must be unique'],
        ),
        (mount(subPath="/a"), ['volumeMounts.subPath: Invalid value: "/a": must be a relative path']),
        (mount(subPath="a/../b"), ["volumeMounts.subPath: Invalid value: \"a/../b\": must not contain '..'"]),
        (mount(subPath="..a"), []),
        (
            mount(subPath="a", subPathExpr="b"),
            ['volumeMounts[0].subPathExpr: Invalid value: "b": subPathExpr and subPath are mutually exclusive'],
        ),
        (mount(subPathExpr="../$(A)"), ["volumeMounts.subPathExpr: Invalid value: \"../$(A)\": must not contain '..'"]),
        (
            mount(mountPropagation="Both"),
            [f'volumeMounts.mountPropagation: Unsupported value: "Both": supported values: {PROPAGATION}'],
        ),
        (
            mount(mountPropagation="Bidirectional"),
            [
                "volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"
            ],
        ),
        (
            container(
                VOLUMES,
                volumeMounts=[{**MOUNT, "mountPropagation": "Bidirectional"}],
                securityContext={"privileged": True},
            ),
            [],
        ),
        (mount(readOnly=True, recursiveReadOnly="Enabled", mountPropagation="None"), []),
        (
            mount(recursiveReadOnly="IfPossible", mountPropagation="HostToContainer"),
            [
                "volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
                "volumeMounts.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
            ],
        ),
        (
            mount(recursiveReadOnly="Maybe"),
            [
                'volumeMounts.recursiveReadOnly: Unsupported value: "Maybe": supported values: "Disabled", "Enabled", "IfPossible"'
            ],
        ),
        (device(), []),
        (
            device(name="", devicePath=""),
            [
                f"volumeDevices[0].name: {REQUIRED}",
                'volumeDevices[0].name: Not found: ""',
                f"volumeDevices[0].devicePath: {REQUIRED}",
            ],
        ),
        (
            device(name="v"),
            [
                (
                    'volumeDevices[0].name: Invalid value: "v": can only use volume source type of '
                    "PersistentVolumeClaim or Ephemeral for block mode"
                )
            ],
        ),
        (
            device(devicePath="/a/.."),
            ["volumeDevices[0].devicePath: Invalid value: \"/a/..\": can not contain backsteps ('..')"],
        ),
        (
            container(VOLUMES, volumeDevices=[{"name": "b", "devicePath": "/d"}] * 2),
            [
                'volumeDevices[1].name: Invalid value: "b": must be unique',
                'volumeDevices[1].devicePath: Invalid value: "/d": must be unique',
            ],
        ),
        (
            container(
                VOLUMES,
                volumeDevices=[{"name": "b", "devicePath": "/d"}],
                volumeMounts=[{"name": "b", "mountPath": "/d"}],
            ),
            [
                'volumeMounts[0].name: Invalid value: "b": must not already exist in volumeDevices',
                'volumeMounts[0].mountPath: Invalid value: "/d": must not already exist as a path in volumeDevices',
                'volumeDevices[0].name: Invalid value: "b": must not already exist in volumeMounts',
                'volumeDevices[0].devicePath: Invalid value: "/d": must not already exist as a path in volumeMounts',
            ],
        ),
    ],
)
def test_mounts_and_devices(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


RULE = {"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (
            container(restartPolicy="Often"),
            ['restartPolicy: Unsupported value: "Often": supported values: "Always", "Never", "OnFailure"'],
        ),
        (
            container(restartPolicyRules=[RULE]),
            [f"restartPolicy: {REQUIRED}: must specify restartPolicy when restart rules are used"],
        ),
        (
            container(restartPolicy="Never", restartPolicyRules=[RULE] * 21),
            ["restartPolicyRules: Too many: 21: must have at most 20 items"],
        ),
        (
            container(restartPolicy="Never", restartPolicyRules=[{"action": "Stop"}]),
            [
                'restartPolicyRules[0].action: Unsupported value: "Stop": supported values: "Restart", "RestartAllContainers"',
                f"restartPolicyRules[0].exitCodes: {REQUIRED}: must be specified",
            ],
        ),
        (
            container(
                restartPolicy="Never", restartPolicyRules=[{"action": "Restart", "exitCodes": {"values": [0] * 256}}]
            ),
            [
                'restartPolicyRules[0].exitCodes.operator: Unsupported value: "": supported values: "In", "NotIn"',
                "restartPolicyRules[0].exitCodes.values: Too many: 256: must have at most 255 items",
            ],
        ),
        (
            container(resizePolicy=[{"resourceName": "disk", "restartPolicy": ""}]),
            ['resizePolicy: Unsupported value: "disk": supported values: "cpu", "memory"', f"resizePolicy: {REQUIRED}"],
        ),
        (
            container(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "NotRequired"}] * 2),
            ['resizePolicy[1]: Duplicate value: "cpu"'],
        ),
        (
            container(
                {"restartPolicy": "Never"}, resizePolicy=[{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]
            ),
            [
                "resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            ],
        ),
    ],
)
def test_restarts_and_resizing(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def init(**changes: Any) -> list[str]:
    return [
        text.removeprefix("spec.initContainers[0].")
        for text in pod(initContainers=[{"name": "i", "image": "i", **changes}])
    ]


NO_SIDECAR = "may not be set for init containers without restartPolicy=Always"
EXEC = {"exec": {"command": ["x"]}}


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (init(), []),
        (init(restartPolicy="Always", lifecycle={"preStop": EXEC}, startupProbe=EXEC), []),
        (init(restartPolicy="Never"), []),
        (init(name="c"), ['name: Duplicate value: "c"']),
        (
            init(lifecycle={"preStop": EXEC}, livenessProbe=EXEC, readinessProbe=EXEC, startupProbe=EXEC),
            [
                f"{part}: Forbidden: {NO_SIDECAR}"
                for part in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
            ],
        ),
        (
            init(restartPolicyRules=[RULE]),
            [f"restartPolicy: {REQUIRED}: must specify restartPolicy when restart rules are used"],
        ),
        (
            init(resizePolicy=[{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]),
            [
                (
                    "resizePolicy[0].restartPolicy: Invalid value: \"RestartContainer\": must not be set to 'RestartContainer' for "
                    "non-sidecar initContainers"
                )
            ],
        ),
    ],
)
def test_init_containers(found: list[str], wanted: list[str]) -> None:
    assert found == wanted


def test_ephemeral_containers_have_less() -> None:
    debug = {
        "name": "d",
        "image": " i",
        "targetContainerName": "z",
        "ports": [{"containerPort": 1}],
        "livenessProbe": EXEC,
        "resources": {"limits": {"cpu": "1"}},
        "volumeMounts": [{"name": "v", "mountPath": "/m", "subPath": "a"}],
    }
    found = pod(ephemeralContainers=[debug, {"name": "c", "image": "i"}], **VOLUMES)
    no = "Forbidden: cannot be set for an Ephemeral Container"
    here = "spec.ephemeralContainers[0]"
    assert found == [
        f'{here}.image: Invalid value: " i": must not have leading or trailing whitespace',
        f'{here}.targetContainerName: Not found: "z"',
        f"{here}.ports: {no}",
        f"{here}.resources: {no}",
        f"{here}.livenessProbe: {no}",
        f"{here}.volumeMounts[0].subPath: {no}",
        'spec.ephemeralContainers[1].name: Duplicate value: "c"',
        "spec.ephemeralContainers: Forbidden: cannot be set on create",
    ]
    assert template(ephemeralContainers=[{"name": "d", "image": "i"}]) == [
        "template.spec.ephemeralContainers: Forbidden: ephemeral containers not allowed in pod template"
    ]
