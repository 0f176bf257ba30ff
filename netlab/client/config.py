"""Where the API server is and who we are: kubeconfig files and the Pod's own service account.

Format: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from netlab.client.tls import client_context
from netlab.errors import ManifestError, NotFound, Unsupported, UsageError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN_SECONDS = 10.0  # a projected token is renewed long before it ends, so this may be slow


@dataclass(frozen=True)
class Config:
    """How to reach and convince one API server. Certificates and keys are PEM bytes.

    `token_file` wins over `token` and is read again as it changes. `namespace` is the context's default.
    """

    server: str
    ca: bytes = b""
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    token: str = field(default="", repr=False)
    token_file: str = ""
    insecure: bool = False
    tls_server_name: str = ""
    namespace: str = "default"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS settings, None for a plain `http://` server.

        Raises:
            UsageError: a certificate or key is not PEM, or they don't belong together.
        """
        if self.server.startswith("http://"):
            return None
        try:
            context = client_context(ca=self.ca, certificate=self.certificate, key=self.key, insecure=self.insecure)
        except (ssl.SSLError, UnicodeDecodeError) as error:
            raise UsageError(f"the certificates for {self.server} can't be used: {error}") from error
        return context


class TokenSource:
    """The bearer token of a Config, read again from its file now and then."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._token = config.token
        self._read_at = -_TOKEN_SECONDS

    def token(self) -> str:
        """Return the token to send now; "" for none."""
        if self._config.token_file and time.monotonic() - self._read_at >= _TOKEN_SECONDS:
            try:
                self._token = Path(self._config.token_file).read_text().strip()
                self._read_at = time.monotonic()
            except OSError as error:
                if not self._token:
                    raise UsageError(f"can't read the token file {self._config.token_file}: {error}") from error
        return self._token


def load(path: str = "", context: str = "") -> Config:
    """Return the Config of a kubeconfig's context.

    Args:
        path: the file; "" means $KUBECONFIG (a colon list; the first file that has a name wins) or ~/.kube/config.
        context: the context's name; "" means current-context.

    Raises:
        NotFound: no such file, or no such context.
        ManifestError: the file is not a kubeconfig.
        Unsupported: the user authenticates by a plugin.
    """
    paths = [path] if path else [p for p in os.environ.get("KUBECONFIG", "").split(":") if p]
    files = [Path(p) for p in paths] or [Path.home() / ".kube" / "config"]
    documents = [(file, _read(file)) for file in files if path or file.exists()]
    if not documents:
        raise NotFound(f"there is no kubeconfig at {files[0]}", hint="give one with --kubeconfig")
    wanted = context or next((str(d["current-context"]) for _, d in documents if d.get("current-context")), "")
    chosen, file = _named(documents, "contexts", "context", wanted)
    cluster, cluster_file = _named(documents, "clusters", "cluster", str(chosen.get("cluster", "")))
    user, user_file = (_named(documents, "users", "user", str(chosen["user"])) if chosen.get("user") else ({}, file))
    if "exec" in user or "auth-provider" in user:
        raise Unsupported(f"{user_file}: the user authenticates by a plugin",
                          hint="use a client certificate or a token")
    if not cluster.get("server"):
        raise ManifestError("the cluster names no server", file=str(cluster_file), field="clusters[].cluster.server")
    token_file = str(user.get("tokenFile", ""))
    return Config(server=str(cluster["server"]).rstrip("/"),
                  ca=_bytes(cluster, "certificate-authority", cluster_file),
                  certificate=_bytes(user, "client-certificate", user_file),
                  key=_bytes(user, "client-key", user_file),
                  token=str(user.get("token", "")),
                  token_file=str(user_file.parent / token_file) if token_file else "",
                  insecure=bool(cluster.get("insecure-skip-tls-verify")),
                  tls_server_name=str(cluster.get("tls-server-name", "")),
                  namespace=str(chosen.get("namespace") or "default"))


def in_cluster(directory: Path = SERVICE_ACCOUNT) -> Config:
    """Return the Config that a Pod gets from its environment and its service account volume.

    Raises:
        NotFound: this process is in no Pod, or its service account is not mounted.
    """
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (directory / "token").exists():
        raise NotFound("this process is in no Pod with a service account", hint="give --kubeconfig")
    space = directory / "namespace"
    return Config(server=f"https://{f'[{host}]' if ':' in host else host}:{port}",
                  ca=(directory / "ca.crt").read_bytes(), token_file=str(directory / "token"),
                  namespace=space.read_text().strip() if space.exists() else "default")


def _read(file: Path) -> dict[str, Any]:
    try:
        document = yaml.load(file.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except OSError as error:
        raise NotFound(f"can't read the kubeconfig {file}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ManifestError(f"not YAML: {error}", file=str(file)) from error
    if not isinstance(document, dict):
        raise ManifestError("not a kubeconfig", file=str(file))
    return document


def _named(documents: list[tuple[Path, dict[str, Any]]], plural: str, singular: str,
           name: str) -> tuple[dict[str, Any], Path]:
    for file, document in documents:
        for row in document.get(plural) or []:
            if row.get("name") == name:
                return dict(row.get(singular) or {}), file
    raise NotFound(f'{documents[0][0]}: no {singular} named "{name}"')


def _bytes(section: dict[str, Any], name: str, file: Path) -> bytes:
    inline, path = section.get(f"{name}-data"), section.get(name)
    try:
        if inline:
            return base64.b64decode(inline, validate=True)
        return (file.parent / path).read_bytes() if path else b""
    except binascii.Error as error:
        raise ManifestError("not base64", file=str(file), field=f"{name}-data") from error
    except OSError as error:
        raise NotFound(f"{file}: can't read {name} {path}: {error.strerror}") from error
