"""An etcd looked at before an API server is to live on it: is it reached, does it let us in, and whose keys are there?

kubeadm's preflight asks every external etcd for its version; this one says also which flag is wrong, and refuses keys
that this API server could not read, or that belong to somebody else.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from grpclib.const import Status
from grpclib.exceptions import GRPCError

from netlab.errors import TemporaryError, UsageError
from netlab.store.model import prefix_end
from netlab.store.rpc import admin, messages
from netlab.store.rpc.client import Client

SECONDS = 3.0
"""How long an endpoint may take to answer."""
SERVERS, CA, CERTIFICATE, KEY, PREFIX = (
    "--etcd-servers (endpoints)", "--etcd-cafile (caFile)", "--etcd-certfile (certFile)", "--etcd-keyfile (keyFile)",
    "--etcd-prefix (prefix)")
_FIRST = 20
"""How many keys are looked at to tell whose they are."""


@dataclass(frozen=True)
class Target:
    """Which etcd: URLs, files or "", and what our keys begin with."""

    servers: tuple[str, ...]
    prefix: str
    ca: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True)
class Found:
    """What is there.

    `cluster` is the etcd cluster's own number; `keys` counts those under the prefix; `nodes` has the Pod ranges of each
    Node among them, `service_ips` the addresses of the Service kubernetes; `elsewhere` is another prefix with a
    cluster's keys, where ours has none; `silent` says which endpoints do not answer, and why.
    """

    cluster: str
    version: str
    keys: int
    nodes: dict[str, tuple[str, ...]]
    service_ips: tuple[str, ...]
    elsewhere: str = ""
    silent: tuple[str, ...] = ()


def look(target: Target, *, opaque: bool = False) -> Found:
    """Look at an etcd. Blocks, at most some seconds.

    With `opaque` the values are somebody else's matter, such as upstream's kube-apiserver: they are not looked at.

    Raises:
        UsageError: a flag is wrong: a file, a certificate, a URL, or a prefix with keys that are not ours.
        TemporaryError: no endpoint answers, or the etcd can't serve now.
    """
    context = _context(target) if any(url.startswith("https") for url in target.servers) else None
    silent, version, answering = [], "", []
    for url in target.servers:
        try:
            version = _version(url, context, target) or version
            answering.append(url)
        except TemporaryError as error:
            silent.append(f"{url}: {error}")
    if not answering:
        raise TemporaryError(f"{SERVERS}: no etcd answers: {'; '.join(silent)}",
                             hint="start it first, e.g. etcd --data-dir DIR; it is reached from this machine, not from "
                                  "inside the lab")
    return asyncio.run(_survey(target, answering, context, version, tuple(silent), opaque=opaque))


def _context(target: Target) -> ssl.SSLContext:
    for flag, file in ((CA, target.ca), (CERTIFICATE, target.certificate), (KEY, target.key)):
        try:
            if file:
                with open(file, "rb") as opened:
                    opened.read(1)
        except OSError as error:
            raise UsageError(f"{flag}: cannot read {file}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if target.ca:
            context.load_verify_locations(target.ca)
        else:
            context.load_default_certs()
    except ssl.SSLError:
        raise UsageError(f"{CA}: {target.ca} holds no certificate in PEM") from None
    try:
        if target.certificate:
            context.load_cert_chain(target.certificate, target.key)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise UsageError(f"{KEY}: {target.key} is not the key of {target.certificate}") from None
        raise UsageError(f"{CERTIFICATE}, {KEY}: {target.certificate} and {target.key} are no certificate and key in "
                         f"PEM: {error.reason or error}") from None
    return context


def _version(url: str, context: ssl.SSLContext | None, target: Target) -> str:
    """Ask one endpoint over HTTP for its version; "" from one that knows no such page.

    Raises:
        UsageError: it is reached, but not as the flags say.
        TemporaryError: it is not.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or 2379
    link = http.client.HTTPSConnection(host, port, timeout=SECONDS, context=context) if secure else \
        http.client.HTTPConnection(host, port, timeout=SECONDS)
    shaken = False
    try:
        link.connect()
        shaken = secure
        link.request("GET", "/version")
        answer = link.getresponse()
        body = answer.read(65536)
    except ssl.SSLCertVerificationError as error:
        raise _not_believed(url, error, target) from None
    except (ssl.SSLError, http.client.HTTPException, ConnectionResetError, BrokenPipeError) as error:
        reason = getattr(error, "reason", "") or str(error).partition(" (_ssl.c")[0]
        if shaken or "ALERT" in reason:  # TLS 1.3: who is turned away hears of it after its own part of the handshake
            raise _turned_away(url, reason, target) from None
        if secure:  # a server of plain HTTP answers a handshake, and may end the connection before that is read
            raise UsageError(f"{SERVERS}: {url}: TLS is not spoken there: {_plain(reason)}",
                             hint=f"is it http{url[5:]}?") from None
        raise UsageError(f"{SERVERS}: {url}: what answers there is no etcd, or one that wants https: "
                         f"{_plain(reason) or type(error).__name__}") from None
    except TimeoutError:
        raise TemporaryError(f"no answer within {SECONDS:g} s") from None
    except OSError as error:
        raise TemporaryError(error.strerror or str(error)) from None
    finally:
        link.close()
    if not secure and answer.status == 400 and b"HTTPS" in body:
        raise UsageError(f"{SERVERS}: {url}: that etcd wants https", hint="with --etcd-cafile, and --etcd-certfile and "
                                                                         "--etcd-keyfile where it asks for them")
    try:
        return str(json.loads(body)["etcdserver"]) if answer.status == 200 else ""
    except (ValueError, KeyError, TypeError):
        raise UsageError(f"{SERVERS}: {url}: what answers there is no etcd: its /version is no etcd's") from None


def _not_believed(url: str, error: ssl.SSLCertVerificationError, target: Target) -> UsageError:
    """Say what is wrong with the certificate that an etcd shows."""
    why = error.verify_message
    if "mismatch" in why or "not valid for" in why:
        return UsageError(f"{SERVERS}: {url}: its certificate is for another name: {why}",
                          hint="openssl x509 -noout -ext subjectAltName -in CERTIFICATE lists the names")
    if "expired" in why or "not yet valid" in why:
        return UsageError(f"{SERVERS}: {url}: {why}")
    if target.ca:
        return UsageError(f"{CA}: the certificate of {url} is not signed by {target.ca}: {why}")
    return UsageError(f"{CA} is missing: this machine does not know who signed the certificate of {url}: {why}")


def _turned_away(url: str, reason: str, target: Target) -> UsageError:
    """Say why an etcd that we believe does not believe us."""
    if not target.certificate:
        return UsageError(f"{CERTIFICATE}, {KEY} are missing: {url} wants a client's certificate: {_plain(reason)}")
    return UsageError(f"{CERTIFICATE}: {url} does not accept {target.certificate}: {_plain(reason)}",
                      hint="the etcd's --trusted-ca-file has to have signed it, for client authentication")


def _plain(reason: str) -> str:
    return reason.replace("_", " ").lower()


async def _survey(target: Target, servers: Sequence[str], context: ssl.SSLContext | None, version: str,
                  silent: tuple[str, ...], *, opaque: bool) -> Found:
    if context is not None:
        context.set_alpn_protocols(["h2"])
    client = Client(servers, context)
    try:
        return await _read(client, target, version, silent, opaque=opaque)
    except GRPCError as error:
        words = error.message or error.status.name
        if error.status in (Status.PERMISSION_DENIED, Status.UNAUTHENTICATED) or "user name" in words:
            raise UsageError(f"{CERTIFICATE}: the etcd asks for a user who may read all keys and write those under "
                             f"{target.prefix}: {words}", hint="with authentication on, etcd takes the certificate's "
                                                               "common name for the user") from None
        if words.startswith("Received :status"):
            raise UsageError(f"{SERVERS}: what answers there is no etcd: {words}") from None
        raise TemporaryError(f"{SERVERS}: the etcd refuses: {words}") from None
    except TemporaryError as error:
        raise TemporaryError(f"{SERVERS}: {error}") from None
    finally:
        client.close()


async def _read(client: Client, target: Target, version: str, silent: tuple[str, ...], *, opaque: bool) -> Found:
    prefix = target.prefix.encode()
    first = await _range(client, prefix + b"/", limit=_FIRST)
    status = await client.call("Maintenance/Status", admin.StatusRequest(), admin.StatusResponse)
    if any("NOSPACE" in words for words in status.errors):
        raise TemporaryError("the etcd takes no more writes: it raises the alarm NOSPACE",
                             hint="free room: etcdctl compaction, defrag, alarm disarm")
    # the store follows all keys (see store/mirror.py): who may not read them all would learn of it only then
    everything = messages.RangeRequest(b"\0", b"\0", limit=1, keys_only=True)
    await client.call("KV/Range", everything, messages.RangeResponse)
    header = first.header
    assert header is not None
    cluster, version = f"{header.cluster_id:x}", version or status.version
    if opaque:
        return Found(cluster, version, first.count, {}, (), "", silent)
    nodes = await _range(client, prefix + b"/minions/")
    service = await _range(client, prefix + b"/services/specs/default/kubernetes", exact=True)
    for kv in (*first.kvs, *nodes.kvs, *service.kvs):
        words = foreign(kv.key, kv.value)
        if words:
            raise UsageError(f"{PREFIX}: {first.count} keys are under {target.prefix} already, and {words}",
                             hint=f"another prefix is free for a lab of its own: --etcd-prefix={target.prefix}-lab")
    return Found(cluster, version, first.count, pod_ranges({kv.key: kv.value for kv in nodes.kvs}),
                 tuple(ip for kv in service.kvs for ip in cluster_ips(kv.value)),
                 "" if first.count else await _elsewhere(client), silent)


def foreign(key: bytes, value: bytes) -> str:
    """Return how a value is not an object as this API server writes it, "" when it is one."""
    name = key.decode(errors="replace")
    if value.startswith(b"k8s"):  # k8s\0 and protobuf, or k8s:enc: and what only its own server can read
        return f"{name} was written by upstream's kube-apiserver, in a form that only it reads"
    try:
        obj: Any = json.loads(value)
        fine = isinstance(obj, dict) and isinstance(obj.get("kind"), str)
    except ValueError:
        fine = False
    return "" if fine else f"{name} is no object of Kubernetes"


def pod_ranges(nodes: Mapping[bytes, bytes]) -> dict[str, tuple[str, ...]]:
    """Return the Pod ranges of Nodes, given by key, by their names."""
    specs = {key.rpartition(b"/")[2].decode(errors="replace"): json.loads(value).get("spec") or {}
             for key, value in nodes.items()}
    return {name: tuple(spec.get("podCIDRs") or ()) for name, spec in specs.items()}


def cluster_ips(service: bytes) -> tuple[str, ...]:
    """Return a Service's addresses."""
    return tuple((json.loads(service).get("spec") or {}).get("clusterIPs") or ())


async def _elsewhere(client: Client) -> str:
    """Return a prefix of one word under which there is a cluster's namespace kube-system, "" if there is none."""
    start = b"\0"
    for _ in range(_FIRST):
        found = await client.call("KV/Range", messages.RangeRequest(start, b"\0", limit=1, keys_only=True),
                                  messages.RangeResponse)
        if not found.kvs:
            return ""
        key = found.kvs[0].key
        word = b"/" + key[1:].partition(b"/")[0] if key.startswith(b"/") else key
        if (await _range(client, word + b"/namespaces/kube-system", exact=True)).kvs:
            return word.decode(errors="replace")
        start = prefix_end(word + b"/") if key.startswith(word + b"/") else key + b"\0"
    return ""


async def _range(client: Client, key: bytes, *, limit: int = 0, exact: bool = False) -> messages.RangeResponse:
    return await client.call("KV/Range", messages.RangeRequest(key, b"" if exact else prefix_end(key), limit),
                             messages.RangeResponse)
