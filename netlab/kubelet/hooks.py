"""Lifecycle hooks: what runs right after a container's start and right before its end.

https://kubernetes.io/docs/concepts/containers/container-lifecycle-hooks/
"""

from __future__ import annotations

import asyncio

from netlab.api.meta import Object
from netlab.errors import NetlabError
from netlab.kubelet import spec
from netlab.kubelet.probers import Exec, Probers, bracketed


class HookFailed(NetlabError):
    """A hook ended badly; the text says how."""


async def run(hook: Object, wanted: Object, ip: str, execute: Exec, probers: Probers) -> None:
    """Run one hook to its end.

    Args:
        hook: the container's lifecycle.postStart or lifecycle.preStop.
        wanted: the container.
        ip: the Pod's address.
        execute: runs a command in the container.
        probers: for HTTP.

    Raises:
        HookFailed: it failed.
    """
    if "sleep" in hook:
        await asyncio.sleep(float(hook["sleep"].get("seconds") or 0))
    elif "exec" in hook:
        command = hook["exec"].get("command") or []
        try:
            code, output = await execute(command, 0)
        except NetlabError as error:
            raise HookFailed(str(error)) from error
        if code:
            said = output[:1024].decode(errors="replace")
            raise HookFailed(f"command '{' '.join(command)}' exited with {code}: {said}")
    elif "httpGet" in hook:
        body = hook["httpGet"]
        try:
            port = spec.port_number(wanted, body["port"]) if body.get("port") not in (None, "") else 80
        except ValueError as error:
            raise HookFailed(str(error)) from error
        path = str(body.get("path") or "")
        scheme, host = str(body.get("scheme") or "HTTP").lower(), bracketed(str(body.get("host") or ip))
        url = f"{scheme}://{host}:{port}/{path.lstrip('/')}"
        status, said = await probers.get(url, body.get("httpHeaders") or [], 30.0)
        if status is None:
            raise HookFailed(said)
        if status >= 400:
            raise HookFailed(f'Get "{url}": HTTP status {status}')
    else:
        raise HookFailed("invalid handler: cannot run hook")
