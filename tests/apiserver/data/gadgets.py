"""An operator written with kopf: a ConfigMap for every Gadget, its size in the status, and a farewell."""

import kopf
import kubernetes


@kopf.on.startup()
def start(settings, **_):
    settings.persistence.finalizer = "gadgets.example.com/finalizer"
    settings.posting.enabled = True


@kopf.on.create("example.com", "v1", "gadgets")
def create(name, namespace, spec, patch, **_):
    body = {"metadata": {"name": name}, "data": {"size": str(spec["size"])}}
    kopf.adopt(body)
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, body)
    patch.status["size"] = spec["size"]


@kopf.on.update("example.com", "v1", "gadgets", field="spec.size")
def resize(name, namespace, new, patch, **_):
    kubernetes.client.CoreV1Api().patch_namespaced_config_map(name, namespace, {"data": {"size": str(new)}})
    patch.status["size"] = new


@kopf.on.delete("example.com", "v1", "gadgets")
def delete(name, namespace, **_):
    kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, {"metadata": {"name": f"{name}-was-here"}})
