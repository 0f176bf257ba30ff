"""ServiceAccount: a `default` account in every namespace."""

from __future__ import annotations

from typing import ClassVar

from netlab.api import meta
from netlab.api.meta import Object
from netlab.controllers.base import Context, Controller
from netlab.errors import ApiError


class ServiceAccounts(Controller):
    """The loop that makes the `default` accounts; its keys are Namespaces."""

    name: ClassVar[str] = "serviceaccount-controller"
    workers: ClassVar[int] = 2

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.namespaces = self.source("namespaces", self.enqueue)
        self.accounts = self.source("serviceaccounts", self._account_changed)

    def _account_changed(self, key: str, _old: Object | None, new: Object | None) -> None:
        namespace, name = meta.split_key(key)
        if new is None and name == "default":
            self.queue.add(namespace)

    async def reconcile(self, key: str) -> float | None:
        """Make the account of one namespace."""
        namespace = self.namespaces.get(key)
        if namespace is None or meta.deleting(namespace) or self.accounts.get(f"{key}/default") is not None:
            return None
        body = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": key}}
        try:
            await self.client.create("serviceaccounts", body)
        except ApiError as error:
            if error.code == 403 or error.reason in ("AlreadyExists", "NotFound"):  # there, or the namespace is going
                return None
            raise
        return None
