"""The runtime's side of the contract: call a network's plugins for a container (libcni/api.go).

ADD goes through the chain in order and hands each plugin the result so far as prevResult; DEL goes backwards with the
result that was kept. What was configured at ADD is kept with the result (in DIR/results, in libcni's format), so that
DEL uses the same configuration even when the file has changed since.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from netlab.cni import delegate, skel
from netlab.cni import result as results
from netlab.cni.cache import Cache, Call
from netlab.cni.conflist import Conflist, load_conflist
from netlab.cni.result import CniError, Result
from netlab.errors import KernelError, NotFound, TemporaryError
from netlab.kernel import process

__all__ = ["CACHE_DIR", "Conflist", "add", "check", "delete", "gc", "load_conflist", "status"]

log = logging.getLogger(__name__)

CACHE_DIR: Final = "/var/lib/cni"
PLUGIN_DIRS: Final = ("/opt/cni/bin",)
TIMEOUT: Final = 120.0


async def add(conflist: Conflist, *, container_id: str, netns: str, ifname: str = "eth0",
              args: Mapping[str, str] | None = None, capability_args: Mapping[str, Any] | None = None,
              plugin_dirs: Sequence[str] = PLUGIN_DIRS, cache_dir: str | Path = CACHE_DIR,
              timeout: float = TIMEOUT) -> Result:
    """Attach a container, and return what the last plugin of the chain answered.

    Args:
        conflist: the network.
        container_id: the sandbox's id.
        netns: path of its network namespace.
        ifname: the interface's name in it.
        args: CNI_ARGS, e.g. {"K8S_POD_NAME": "web-1"}.
        capability_args: what plugins get as runtimeConfig, each only the capabilities it declares,
            e.g. {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}.
        plugin_dirs: where the executables are.
        cache_dir: results are kept below it.
        timeout: seconds that each plugin may take.

    Raises:
        CniError: a plugin failed, and what had been done was undone as far as possible; or this attachment was made
            before and not undone by `delete`.
    """
    # an explicit empty list spares DEL the search for port mappings that were never made
    asked = {"portMappings": [], **(capability_args or {})}
    call = Call(container_id, netns, ifname, dict(args or {}), asked, tuple(plugin_dirs), timeout)
    if Cache(cache_dir).read(conflist.name, container_id, ifname) is not None:
        raise CniError(results.INTERNAL, f"{container_id} is attached to {conflist.name} by {ifname} already")
    previous: Mapping[str, Any] | None = None
    try:
        for plugin in conflist.plugins:
            previous = {"cniVersion": conflist.version,
                        **await _run(call, "ADD", plugin, _config(conflist, plugin, call, previous))}
        answer = results.parse(previous or {})
        Cache(cache_dir).write(conflist, call, previous or {})
    except BaseException:
        await asyncio.shield(_undo(conflist, call, cache_dir))
        raise
    return answer


async def delete(conflist: Conflist | None, *, container_id: str, netns: str = "", ifname: str = "eth0",
                 args: Mapping[str, str] | None = None, capability_args: Mapping[str, Any] | None = None,
                 plugin_dirs: Sequence[str] = PLUGIN_DIRS, cache_dir: str | Path = CACHE_DIR,
                 timeout: float = TIMEOUT) -> None:
    """Detach a container; fine when it is detached, or its namespace is gone (`netns` may be "").

    What was kept at ADD goes before `conflist`, `args` and `capability_args`; with no conflist and nothing kept there
    is nothing to do.

    Raises:
        CniError: a plugin failed; the chain stops there and the cache stays, so that the next call tries again.
    """
    call = Call(container_id, netns, ifname, dict(args or {}), dict(capability_args or {}), tuple(plugin_dirs), timeout)
    cache = Cache(cache_dir)
    kept = cache.read(conflist.name if conflist else "", container_id, ifname)
    if kept is not None:
        conflist, call, previous = kept.conflist, replace(kept.call, netns=netns, plugin_dirs=call.plugin_dirs,
                                                          timeout=timeout), kept.result
    elif conflist is None:
        return
    else:
        previous = None
    await _delete(conflist, call, previous)
    cache.remove(conflist.name, container_id, ifname)


async def check(conflist: Conflist, *, container_id: str, netns: str, ifname: str = "eth0",
                args: Mapping[str, str] | None = None, capability_args: Mapping[str, Any] | None = None,
                plugin_dirs: Sequence[str] = PLUGIN_DIRS, cache_dir: str | Path = CACHE_DIR,
                timeout: float = TIMEOUT) -> None:
    """Let every plugin compare the kernel's state with what ADD made; nothing to do before 0.4.0 or with disableCheck.

    Raises:
        CniError: something is not as it should be, or the container was never attached.
    """
    if conflist.disable_check or _older(conflist.version, "0.4.0"):
        return
    call = Call(container_id, netns, ifname, dict(args or {}), dict(capability_args or {}), tuple(plugin_dirs), timeout)
    kept = Cache(cache_dir).read(conflist.name, container_id, ifname)
    if kept is None:
        raise CniError(results.UNKNOWN_CONTAINER, f"{container_id} is not attached to {conflist.name}")
    for plugin in conflist.plugins:
        await _run(call, "CHECK", plugin, _config(conflist, plugin, call, kept.result))


async def gc(conflist: Conflist, valid: Iterable[tuple[str, str]], *, plugin_dirs: Sequence[str] = PLUGIN_DIRS,
             cache_dir: str | Path = CACHE_DIR, timeout: float = TIMEOUT) -> None:
    """Free everything but the valid attachments, pairs of container id and interface name. Not beside ADD or DEL.

    First DEL for each kept attachment that is not valid, then, from 1.1.0 on, GC through the chain. Goes on after
    errors.

    Raises:
        CniError: all that went wrong, in one.
    """
    keep = set(valid)
    cache = Cache(cache_dir)
    wrong: list[str] = []
    for kept in cache.all(conflist.name):
        if (kept.call.container_id, kept.call.ifname) not in keep:
            try:
                await delete(kept.conflist, container_id=kept.call.container_id, ifname=kept.call.ifname,
                             plugin_dirs=plugin_dirs, cache_dir=cache_dir, timeout=timeout)
            except CniError as error:
                wrong.append(str(error))
    if not conflist.disable_gc and not _older(conflist.version, "1.1.0"):
        call = Call("", "", "", {}, {}, tuple(plugin_dirs), timeout)
        listed = [{"containerID": container_id, "ifname": ifname} for container_id, ifname in sorted(keep)]
        for plugin in conflist.plugins:
            config = _config(conflist, plugin, call, None)
            try:
                await _run(call, "GC", plugin, {**config, "cni.dev/valid-attachments": listed,
                                                "cni.dev/attachments": listed})
            except CniError as error:
                wrong.append(f"{plugin['type']}: {error}")
    if wrong:
        raise CniError(results.INTERNAL, "; ".join(wrong))


async def status(conflist: Conflist, *, plugin_dirs: Sequence[str] = PLUGIN_DIRS, timeout: float = TIMEOUT) -> None:
    """Ask every plugin whether an ADD could be served; before 1.1.0, only whether the plugins are there.

    Raises:
        CniError: it could not (code 50 or 51), or a plugin is missing.
    """
    for plugin in conflist.plugins:
        delegate.find(plugin["type"], plugin_dirs)
    if not _older(conflist.version, "1.1.0"):
        call = Call("", "", "", {}, {}, tuple(plugin_dirs), timeout)
        for plugin in conflist.plugins:
            await _run(call, "STATUS", plugin, _config(conflist, plugin, call, None))


async def _undo(conflist: Conflist, call: Call, cache_dir: str | Path) -> None:
    """Free what a failed ADD left. Its error is the one to tell, so what fails here is only logged."""
    try:
        await _delete(conflist, call, None)
        Cache(cache_dir).remove(conflist.name, call.container_id, call.ifname)
    except CniError as error:
        log.warning("after a failed ADD of %s to network %s: DEL failed too: %s", call.container_id, conflist.name,
                    error)


async def _delete(conflist: Conflist, call: Call, previous: Mapping[str, Any] | None) -> None:
    if _older(conflist.version, "0.4.0"):
        previous = None
    for plugin in reversed(conflist.plugins):
        await _run(call, "DEL", plugin, _config(conflist, plugin, call, previous))


def _config(conflist: Conflist, plugin: Mapping[str, Any], call: Call,
            previous: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what a plugin reads: its own configuration, the network's name and version, and what is added per call."""
    config = {key: value for key, value in plugin.items() if key not in ("prevResult", "runtimeConfig")}
    config |= {"name": conflist.name, "cniVersion": conflist.version}
    declared = plugin.get("capabilities") or {}
    runtime = {key: value for key, value in call.capability_args.items() if declared.get(key)}
    if runtime:
        config["runtimeConfig"] = runtime
    if previous is not None:
        config["prevResult"] = previous
    return config


async def _run(call: Call, verb: str, plugin: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    file = delegate.find(plugin["type"], call.plugin_dirs)
    stdin = json.dumps(config).encode()
    environ = {**os.environ, "CNI_COMMAND": verb, "CNI_PATH": os.pathsep.join(call.plugin_dirs)}
    for name, value in (("CNI_CONTAINERID", call.container_id), ("CNI_NETNS", call.netns), ("CNI_IFNAME", call.ifname),
                        ("CNI_ARGS", ";".join(f"{key}={value}" for key, value in call.args.items()))):
        environ.pop(name, None)
        if value:
            environ[name] = value
    ours = delegate.own(file)
    try:
        if ours is not None:
            # ADD takes a millisecond, most of it in short system calls: in a thread each of them would hand the
            # interpreter's lock back and forth. DEL waits for the kernel (RCU), which a thread does well.
            code, answer = (skel.respond(ours, environ, stdin) if verb == "ADD"
                            else await asyncio.to_thread(skel.respond, ours, environ, stdin))
            return delegate.parse_answer(file, code, answer)
        done = await process.run([file], input=stdin, env=environ, timeout=call.timeout)
    except TemporaryError as error:
        raise CniError(results.TRY_AGAIN, f"{verb} of {plugin['type']}", str(error)) from None
    except (KernelError, NotFound) as error:
        raise CniError(results.INTERNAL, f"{verb} of {plugin['type']}", str(error)) from None
    return delegate.parse_answer(file, done.code, done.stdout, done.stderr)


def _older(version: str, than: str) -> bool:
    return results.VERSIONS.index(version) < results.VERSIONS.index(than)
