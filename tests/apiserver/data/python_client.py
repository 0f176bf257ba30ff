"""A program on the official Python client: what an operator does with it. argv: kubeconfig, namespace."""

import datetime
import os
import sys
import threading
from collections.abc import Callable

from kubernetes import client, config, dynamic, watch
from kubernetes.client.rest import ApiException
from kubernetes.leaderelection import electionconfig, leaderelection
from kubernetes.leaderelection.resourcelock.leaselock import LeaseLock

config.load_kube_config(sys.argv[1])
NS = sys.argv[2]
core, apps = client.CoreV1Api(), client.AppsV1Api()


def conflicts(call: Callable[[], object], why: str) -> None:
    """Make a call that must be refused with 409."""
    try:
        call()
    except ApiException as error:
        if error.status != 409 or why not in str(error.body):
            raise
    else:
        raise AssertionError(f"not refused: {why}")


def objects() -> None:
    """Create, read, replace, conflict, patch in four ways, delete."""
    labels = {"app": "web"}
    template = client.V1PodTemplateSpec(metadata=client.V1ObjectMeta(labels=labels), spec=client.V1PodSpec(
        containers=[client.V1Container(name="c", image="x:1")]))
    body = client.V1Deployment(metadata=client.V1ObjectMeta(name="web"), spec=client.V1DeploymentSpec(
        replicas=2, selector=client.V1LabelSelector(match_labels=labels), template=template))
    made = apps.create_namespaced_deployment(NS, body)
    assert made.spec.strategy.rolling_update.max_surge == "25%", made
    assert isinstance(made.metadata.creation_timestamp, datetime.datetime)
    old = apps.read_namespaced_deployment("web", NS)
    made.spec.replicas = 3
    apps.replace_namespaced_deployment("web", NS, made)
    conflicts(lambda: apps.replace_namespaced_deployment("web", NS, old), "the object has been modified")
    apps.patch_namespaced_deployment("web", NS, {"spec": {"template": {"spec": {"containers": [
        {"name": "c", "env": [{"name": "A", "value": "1"}]}]}}}})
    apps.patch_namespaced_deployment("web", NS, [{"op": "replace", "path": "/spec/replicas", "value": 4}])
    found = apps.read_namespaced_deployment("web", NS)
    assert (found.spec.replicas, found.spec.template.spec.containers[0].image) == (4, "x:1"), found
    scale = apps.read_namespaced_deployment_scale("web", NS)
    scale.spec.replicas = 5
    assert apps.replace_namespaced_deployment_scale("web", NS, scale).spec.replicas == 5
    made = dynamic.DynamicClient(client.ApiClient()).resources.get(api_version="v1", kind="ConfigMap")
    applied = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"a": "1"}}
    made.server_side_apply(body=applied, name="applied", namespace=NS, field_manager="one")
    conflicts(lambda: made.server_side_apply(body={**applied, "data": {"a": "2"}}, name="applied", namespace=NS,
                                             field_manager="two"), "FieldManagerConflict")
    made.server_side_apply(body={**applied, "data": {"a": "2"}}, name="applied", namespace=NS, field_manager="two",
                           force_conflicts=True)
    assert core.read_namespaced_config_map("applied", NS).data == {"a": "2"}
    gone = apps.delete_namespaced_deployment("web", NS, propagation_policy="Background")
    assert (gone["status"] if isinstance(gone, dict) else gone.status) == "Success", gone


def watching() -> None:
    """List and watch from there; begin again when the revision is too old, as the client does by itself."""
    listed = core.list_namespaced_config_map(NS)
    for number in range(3):
        core.create_namespaced_config_map(NS, {"metadata": {"name": f"w{number}"}})
    watcher, seen = watch.Watch(), []
    for event in watcher.stream(core.list_namespaced_config_map, NS, timeout_seconds=20,
                                resource_version=listed.metadata.resource_version):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 3:
            watcher.stop()
    assert seen == [("ADDED", f"w{number}") for number in range(3)], seen
    pages, token = [], None
    while token != "":
        page = core.list_namespaced_config_map(NS, limit=2, _continue=token)
        pages.append(len(page.items))
        token = page.metadata._continue or ""
    assert sum(pages) == 4, pages
    assert pages[0] == 2, pages


def leading() -> None:
    """Be elected by a Lease."""
    led = threading.Event()
    lock = LeaseLock("leader", NS, "me")
    settings = electionconfig.Config(lock, lease_duration=17, renew_deadline=15, retry_period=1, onstarted_leading=led.set,
                                     onstopped_leading=None)
    threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True).start()
    assert led.wait(30)
    lease = client.CoordinationV1Api().read_namespaced_lease("leader", NS)
    assert lease.spec.holder_identity == "me", lease


for part in (objects, watching, leading):
    part()
    print(part.__name__, flush=True)
os._exit(0)  # the thread that leads is still at it, and may print while the interpreter ends
