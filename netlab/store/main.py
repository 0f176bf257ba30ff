"""netlab/etcd: the store alone, as an etcd of one member. Values are opaque bytes; the flags are etcd's."""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from netlab import daemon, flags, klog
from netlab.errors import UsageError
from netlab.flags import Flag
from netlab.store.compact import Retention
from netlab.store.contract import Store
from netlab.store.faces import listener
from netlab.store.faces.face import REQUEST_BYTES, TXN_OPS, VERSION, Face
from netlab.store.faces.listener import Listener
from netlab.store.sqlite import Synchronous

log = logging.getLogger(__name__)

_URL = "http://localhost:2379"
_FOR_EVER = Retention(seconds=float("inf"), revisions=1 << 62, bytes=1 << 62)
"""An etcd forgets history only when it is told to, unless it has a retention."""

_IGNORED = """
backend-batch-interval:duration backend-batch-limit:int
cipher-suites:list cors:list discovery discovery-fallback discovery-proxy discovery-srv election-timeout:int
enable-grpc-gateway:bool enable-pprof:bool enable-v2:bool experimental-initial-corrupt-check:bool
experimental-corrupt-check-time:duration feature-gates:map force-new-cluster:bool grpc-keepalive-interval:duration
grpc-keepalive-min-time:duration grpc-keepalive-timeout:duration heartbeat-interval:int
initial-advertise-peer-urls:list initial-cluster initial-cluster-state initial-cluster-token
listen-peer-urls:list log-level log-outputs:list logger
max-snapshots:int max-wals:int metrics peer-auto-tls:bool peer-cert-file peer-client-cert-auth:bool peer-key-file
peer-trusted-ca-file pre-vote:bool quota-backend-bytes:int snapshot-count:int strict-reconfig-check:bool
tls-min-version wal-dir
"""

FLAGS: tuple[Flag, ...] = (
    Flag("name", default="default", help="this member's name"),
    Flag("data-dir", default="", help="the directory of the database; empty: NAME.etcd, as etcd has it"),
    Flag("listen-client-urls", "list", [_URL], "where to listen for clients"),
    Flag("advertise-client-urls", "list", [], "what clients are told; by default where it listens"),
    Flag("listen-metrics-urls", "list", [], "where to answer /health and /metrics besides"),
    Flag("cert-file", help="the server's certificate"),
    Flag("key-file", help="the key of the server's certificate"),
    Flag("trusted-ca-file", help="the CA that signs clients' certificates"),
    Flag("client-cert-auth", "bool", help="turn away who shows no certificate of that CA"),
    Flag("max-txn-ops", "int", TXN_OPS, "operations that a transaction may have"),
    Flag("max-request-bytes", "int", REQUEST_BYTES, "bytes that a request may have"),
    Flag("auto-compaction-mode", default="periodic", help="what --auto-compaction-retention counts: "
         "periodic (time, such as 30m; hours without a unit) or revision"),
    Flag("auto-compaction-retention", default="0", help="how much history to keep; 0: until a client compacts it"),
    Flag("watch-progress-notify-interval", "duration", 600.0, "how often quiet watches hear of the progress"),
    Flag("experimental-watch-progress-notify-interval", "duration", 0.0, "the same, by its older name"),
    Flag("unsafe-no-fsync", "bool", help="do not wait for the disk: a power cut may lose the newest writes"),
    Flag("ready-file", help="a file to write the first port into once it listens"),
    Flag("version", "bool", help="print the version of the API"),
    Flag("help", "bool", help="this text"),
    Flag("v", "int", 0, "log verbosity"),
    *(Flag(name, kind or "string", ignored=True)  # type: ignore[arg-type]
      for name, _, kind in (word.partition(":") for word in _IGNORED.split())),
)


@dataclass(frozen=True)
class Options:
    """What the flags say, checked."""

    name: str
    data_dir: Path
    listen: tuple[str, ...]
    advertise: tuple[str, ...]
    metrics: tuple[str, ...]
    context: ssl.SSLContext | None
    synchronous: Synchronous
    max_ops: int
    max_bytes: int
    retention: Retention
    notify: float
    ready_file: str
    verbosity: int


def parse(argv: Sequence[str]) -> Options | str:
    """Return the options, or the text that is asked for.

    Raises:
        UsageError: a flag is wrong or missing.
    """
    found = flags.parse("etcd", argv, FLAGS)
    if found["help"]:
        return flags.usage("etcd", "The store of the cluster, with etcd's API, as the only member.", FLAGS)
    if found["version"]:
        return f"etcd Version: {VERSION}\n"
    if found.args:
        raise UsageError(f"unknown command {found.args[0]!r}: etcd takes only flags")
    for url in (*found["listen-client-urls"], *found["advertise-client-urls"], *found["listen-metrics-urls"]):
        listener.address(url)
    context = None
    if found["cert-file"] or found["key-file"]:
        if not (found["cert-file"] and found["key-file"]):
            raise UsageError("--cert-file and --key-file go together")
        if found["client-cert-auth"] and not found["trusted-ca-file"]:
            raise UsageError("--client-cert-auth needs --trusted-ca-file")
        context = listener.tls(certificate=found["cert-file"], key=found["key-file"],
                               client_ca=found["trusted-ca-file"])
    name = found["name"]
    return Options(
        name=name, data_dir=Path(found["data-dir"] or f"{name}.etcd"), listen=tuple(found["listen-client-urls"]),
        advertise=tuple(found["advertise-client-urls"] or found["listen-client-urls"]),
        metrics=tuple(found["listen-metrics-urls"]), context=context,
        synchronous="normal" if found["unsafe-no-fsync"] else "full", max_ops=found["max-txn-ops"],
        max_bytes=found["max-request-bytes"],
        retention=_retention(found["auto-compaction-mode"], found["auto-compaction-retention"]),
        notify=found["experimental-watch-progress-notify-interval"] or found["watch-progress-notify-interval"],
        ready_file=found["ready-file"], verbosity=found["v"])


def _retention(mode: str, text: str) -> Retention:
    """Return how much history to keep. Raises UsageError."""
    if mode not in ("periodic", "revision"):
        raise UsageError(f'--auto-compaction-mode="{mode}": expected periodic or revision')
    if text.isdecimal() and mode == "revision":
        return replace(_FOR_EVER, revisions=int(text) or _FOR_EVER.revisions)
    if mode == "revision":
        raise UsageError(f'--auto-compaction-retention="{text}": expected a number of revisions')
    seconds = int(text) * 3600.0 if text.isdecimal() else flags.parse_duration(text)
    return replace(_FOR_EVER, seconds=seconds or _FOR_EVER.seconds)


def main(argv: list[str]) -> int:
    """Run the program. Returns the exit code."""
    try:
        parsed = parse(argv)
    except UsageError as error:
        sys.stderr.write(f"etcd: {error}{f' ({error.hint})' if error.hint else ''}\n")
        return 1
    if isinstance(parsed, str):
        sys.stdout.write(parsed)
        return 0
    klog.setup(verbosity=parsed.verbosity)
    chosen: Options = parsed
    return daemon.run(lambda stop: serve(chosen, stop))


async def serve(chosen: Options, stop: asyncio.Event) -> int:
    """Serve until `stop` is set.

    Raises:
        NetlabError: it cannot start; said in one line by the caller.
    """
    path = chosen.data_dir / "store.db"
    async with await Store.open(path, synchronous=chosen.synchronous, retention=chosen.retention) as store:
        face = Face(store, chosen.name, chosen.advertise, chosen.advertise, chosen.notify, chosen.max_ops,
                    chosen.max_bytes)
        doors = Listener(face)
        try:
            ports = await doors.start(chosen.listen, chosen.context)
            await doors.start(chosen.metrics, chosen.context)
            log.info("Serving etcd's API on %s, revision %d", ", ".join(chosen.listen), store.revision)
            if chosen.ready_file:
                Path(chosen.ready_file).write_text(f"{ports[0]}\n")
            await stop.wait()
        finally:
            await doors.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
