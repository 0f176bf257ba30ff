"""The API server's inside: what every request finds at hand."""

from __future__ import annotations

import time
from collections.abc import Callable

from netlab.api import meta
from netlab.api.kinds import Resource
from netlab.api.meta import Object
from netlab.apiserver import audit, chosen, own
from netlab.apiserver.admission import plugins
from netlab.apiserver.admission.base import Chain
from netlab.apiserver.admission.escalation import Escalation
from netlab.apiserver.admission.type_checks import TypeChecks
from netlab.apiserver.aggregator.keeper import Aggregator
from netlab.apiserver.allocator import ServiceStock
from netlab.apiserver.auth import bearers, modes
from netlab.apiserver.auth.authenticate import Ways
from netlab.apiserver.auth.tokens import ServiceAccountTokens
from netlab.apiserver.catalog import Catalog
from netlab.apiserver.crd.documents import Kept
from netlab.apiserver.crd.keeper import Keeper
from netlab.apiserver.endpoint import Endpoint
from netlab.apiserver.flow.keeper import Flows
from netlab.apiserver.folder import Decoded, Folder
from netlab.apiserver.health import ADMISSION
from netlab.apiserver.hooks import Hooks
from netlab.apiserver.options import Options
from netlab.apiserver.proxy.upstream import Upstream
from netlab.apiserver.ranges import Ranges
from netlab.apiserver.strategies import registry
from netlab.serving.dynamic import Serving
from netlab.serving.shown import Shown
from netlab.store import Store, Watch


class Api:
    """One API server: its store, its endpoints by (group, version, plural), its rules.

    `clock` gives Unix seconds, `monotonic` seconds that only grow.
    """

    def __init__(self, store: Store, options: Options, kubelets: Upstream, serving: Serving, *,
                 clock: Callable[[], float] = time.time,
                 monotonic: Callable[[], float] = time.monotonic) -> None:
        self.store, self.options, self.clock, self.monotonic = store, options, clock, monotonic
        self.stock = ServiceStock(options.service_networks, options.node_ports)
        self.catalog = Catalog()
        self.documents: dict[str, Kept] = {}
        self.decoded = Decoded()
        self.endpoints: dict[tuple[str, str, str], Endpoint] = {
            (row.group, row.version, row.plural): self._endpoint(row) for row in self.catalog.rows}
        self.definitions = Keeper(self)
        self.aggregator = Aggregator(self)
        self.ranges = Ranges(self)
        self.flows = Flows(self)
        self.type_checks = TypeChecks(self)
        self.authorizer, self.rbac = modes.authorizer(options.authorization_modes, store)
        self.admission: Chain = plugins.chain(enabled=options.enabled_plugins,
                                              disabled=options.disabled_plugins)
        if self.rbac is not None:
            self.admission = Chain((*self.admission.steps, Escalation(self.rbac)))
        self.tokens = ServiceAccountTokens(
            issuers=options.issuers, audiences=(), signing_key=options.signing_key, key_files=options.token_keys,
            lookup=self.lookup, mark=self._mark)
        fixed = bearers.read(options.token_file) if options.token_file else {}
        self.bearers = bearers.Bearers(self.tokens, self.lookup, fixed=fixed, bootstrap=options.bootstrap_tokens)
        self.serving = serving
        self.to_backends = Shown("proxy client certificate", options.proxy_certificate, options.proxy_key)
        self.ways = Ways(serving, options.request_header, self.bearers)
        self.audit: audit.Log | None = None
        if options.audit_log:
            policy = audit.read(options.audit_policy) if options.audit_policy else audit.Policy()
            self.audit = audit.Log(options.audit_log, policy, options.audit_megabytes << 20, options.audit_backups)
        self.kubelets = kubelets
        self.hooks = Hooks(self.lookup)
        self.watches: set[Watch] = set()
        self.default_priority = self._chosen("scheduling.k8s.io", "priorityclasses", chosen.priority)
        self.default_storage = self._chosen("storage.k8s.io", "storageclasses", chosen.storage)
        self.default_ingress = self._chosen("networking.k8s.io", "ingressclasses", chosen.ingress)
        self.stopping = False
        self.ready: set[str] = {ADMISSION}
        self.port = options.port

    def _endpoint(self, row: Resource) -> Endpoint:
        conversion, stored = registry.conversion(row)
        return Endpoint(row, Folder(self.store, stored, self.decoded), registry.strategy(row, self.stock), conversion)

    def _chosen(self, group: str, plural: str, pick: chosen.Pick) -> chosen.Chosen:
        return chosen.Chosen(self.store, self.endpoints[(group, "v1", plural)], pick)

    def endpoint(self, resource: Resource) -> Endpoint:
        """Return the endpoint of a resource."""
        return self.endpoints[(resource.group, resource.version, resource.plural)]

    async def lookup(self, plural: str, namespace: str, name: str) -> Object | None:
        """Return an object, to look at only; None when there is none.

        What is known here without asking an etcd will do, as upstream's admission has it from its informers; only what
        is not known is asked for.
        """
        for (_, _, known), endpoint in self.endpoints.items():
            if known == plural:
                key = endpoint.folder.key(namespace, name)
                kv = self.store.known(key) or await self.store.get(key)
                return None if kv is None else endpoint.folder.view(kv)
        return None

    async def _mark(self, secret: Object, labels: dict[str, str]) -> None:
        await own.merge(self, "secrets", meta.namespace(secret), meta.name(secret), {"metadata": {"labels": labels}},
                        uid=meta.uid(secret))

    def stop(self) -> None:
        """End every watch; new ones are refused."""
        self.stopping = True
        for watch in tuple(self.watches):
            watch.close()
