"""kube-apiserver: start, serve until told to stop, stop cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import socket
import sys
from pathlib import Path
from typing import Literal

from netlab import daemon, klog
from netlab.apiserver import bootstrap, health, options
from netlab.apiserver.api import Api
from netlab.apiserver.auth import aggregate
from netlab.apiserver.dispatch import Dispatcher
from netlab.apiserver.options import Options
from netlab.apiserver.proxy import kubelet
from netlab.apiserver.proxy.upstream import Upstream
from netlab.apiserver.server import Server
from netlab.errors import UsageError
from netlab.serving import files
from netlab.serving.dynamic import Serving
from netlab.serving.shown import Shown
from netlab.store import LocalStore, Retention, Store
from netlab.store.faces.face import Face
from netlab.store.faces.listener import Listener, tls

log = logging.getLogger(__name__)

GIT_VERSION = "v1.36.0-netlab.1"
"""What /version says: the minor version whose API is served."""
GRACE_SECONDS = 2.0
_SETTLE_SECONDS = 10.0
_GARBAGE = 20_000
_DATABASE = "store.db"


def main(argv: list[str]) -> int:
    """Run the program. Returns the exit code."""
    try:
        parsed = options.parse(argv)
    except UsageError as error:
        sys.stderr.write(f"kube-apiserver: {error}{f' ({error.hint})' if error.hint else ''}\n")
        return 1
    if isinstance(parsed, str):
        sys.stdout.write(parsed)
        return 0
    klog.setup(verbosity=parsed.verbosity)
    random.seed()
    chosen: Options = parsed
    return daemon.run(lambda stop: serve(chosen, stop))


async def serve(chosen: Options, stop: asyncio.Event) -> int:
    """Serve until `stop` is set.

    Raises:
        NetlabError: it cannot start; said in one line by the caller.
    """
    serving = Serving(chosen.serving, minimum=chosen.tls_minimum, ciphers=chosen.tls_ciphers)
    to_kubelets = Shown("kubelet client certificate", chosen.kubelet_certificate, chosen.kubelet_key)
    async with await _open_store(chosen) as store:
        api = Api(store, chosen, Upstream(kubelet.tls(chosen, to_kubelets)), serving)
        await api.ranges.load()
        await bootstrap.restore(api)
        await api.definitions.load()
        await bootstrap.roles(api)
        await api.flows.load()
        server = Server(Dispatcher(api, GIT_VERSION), serving.context.for_asyncio())
        api.port = await server.start(chosen.bind, chosen.port)
        doors = await _open_to_etcdctl(store, chosen)
        await bootstrap.ensure(api)
        log.info("Serving securely on %s:%d, revision %d", chosen.bind, api.port, store.revision)
        gc.freeze()
        gc.set_threshold(_GARBAGE, 20, 50)  # objects of the API have no cycles: looking for some among them is waste
        keepers = [asyncio.create_task(bootstrap.keep(api)), asyncio.create_task(api.definitions.run()),
                   asyncio.create_task(api.aggregator.run()), asyncio.create_task(api.ranges.run()),
                   asyncio.create_task(api.flows.run()),
                   asyncio.create_task(api.type_checks.run()), asyncio.create_task(daemon.thrifty()),
                   asyncio.create_task(
                       files.keep(serving.refresh, to_kubelets.refresh, api.to_backends.refresh))]
        if api.rbac is not None:
            keepers.append(asyncio.create_task(aggregate.keep(api)))
        api.ready.update((*health.INFORMERS, health.PROXY_CLIENT, health.FILTER, health.PLAIN, health.SIZES))
        try:
            await daemon.first(stop.wait(), _settled(api))
            if chosen.ready_file:
                Path(chosen.ready_file).write_text(f"{chosen.advertise}:{api.port}\n")
            await stop.wait()
        finally:
            log.info("Stopping: ending %d watches", len(api.watches))
            for keeper in keepers:
                keeper.cancel()
            api.stop()
            if doors is not None:
                await doors.close()
            await server.close(GRACE_SECONDS)
            await api.kubelets.close()
            await api.hooks.close()
            await api.aggregator.close()
            await asyncio.gather(*keepers, return_exceptions=True)
    return 0


async def _settled(api: Api) -> None:
    """Wait until all is done that is done once after the start, or is late: then /readyz says what."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SETTLE_SECONDS):
            while health.unfinished(api):  # noqa: ASYNC110 - for some hundredths of a second, once
                await asyncio.sleep(0.01)


async def _open_store(chosen: Options) -> Store:
    """Open the store: an etcd if one is named, else one of this process, in a file or in memory."""
    retention = Retention(seconds=chosen.history_seconds, revisions=chosen.history_revisions)
    if chosen.etcd.servers:
        from netlab.store.etcd import EtcdStore  # gRPC is imported where it is spoken

        return await EtcdStore.connect(
            chosen.etcd.servers, prefix=chosen.etcd.prefix, ca=chosen.etcd.ca, certificate=chosen.etcd.certificate,
            key=chosen.etcd.key, retention=retention, compact_seconds=chosen.history_seconds)
    path = None
    if chosen.data_dir is not None:
        path = chosen.data_dir / _DATABASE
    synchronous: Literal["normal", "full"] = "full" if chosen.synchronous == "full" else "normal"
    return await Store.open(path, synchronous=synchronous, retention=retention)


async def _open_to_etcdctl(store: Store, chosen: Options) -> Listener | None:
    """Let the store answer etcd's own API, where that is asked for."""
    if not chosen.store_urls or not isinstance(store, LocalStore):
        return None
    doors = Listener(Face(store, socket.gethostname(), chosen.store_urls, chosen.store_urls))
    context = tls(certificate=chosen.store_certificate, key=chosen.store_key, client_ca=chosen.store_ca) \
        if chosen.store_certificate else None
    await doors.start(chosen.store_urls, context)
    return doors


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
