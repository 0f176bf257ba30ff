"""An etcd that is not the lab's own, as asked for, and the ways to it from inside: values; endpoints.py finds them.

The fields are those of kubeadm's `etcd.external`, the flags kube-apiserver's. A lab's network is its own, so that the
API server could not reach such an etcd: connections to its address end in the lab, on the control-plane node's loopback
or at the fabric's router, and are passed on from the host's network (see relay.py).
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIX = "/registry"
FIELDS = {"endpoints": "--etcd-servers", "caFile": "--etcd-cafile", "certFile": "--etcd-certfile",
          "keyFile": "--etcd-keyfile", "prefix": "--etcd-prefix"}
"""A scenario's fields, and the flags that say the same."""


def named(field: str) -> str:
    """Return how an error names a field, whichever way it was said."""
    return f"{FIELDS[field]} ({field})"


@dataclass(frozen=True)
class External:
    """An etcd as asked for: URLs, absolute paths of files ("" for none), and what its keys begin with."""

    endpoints: tuple[str, ...]
    ca: str = ""
    certificate: str = ""
    key: str = ""
    prefix: str = PREFIX

    def etcdctl(self) -> str:
        """Return the beginning of an etcdctl command for it."""
        files = (("cacert", self.ca), ("cert", self.certificate), ("key", self.key))
        return " ".join(["etcdctl", f"--endpoints={','.join(self.endpoints)}",
                         *(f"--{flag}={file}" for flag, file in files if file)])


@dataclass(frozen=True)
class Way:
    """How one endpoint is reached: what connects to `address`:`port` in the lab is connected to `host`:`port` here."""

    host: str
    port: int
    address: str

    @property
    def named(self) -> bool:
        """Tell whether the host is a name that nodes have to know."""
        return self.host not in (self.address, "localhost") and ":" not in self.host

    @property
    def loopback(self) -> bool:
        """Tell whether it begins on the control-plane nodes' loopback, else on the fabric."""
        return self.address == "::1" or self.address.startswith("127.")
