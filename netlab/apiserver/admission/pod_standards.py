"""The Pod Security Standards as functions from a Pod to what it violates (k8s.io/pod-security-admission/policy).

https://kubernetes.io/docs/concepts/security/pod-security-standards/. Every check returns (reason, detail): what is
forbidden, and by which part of the Pod. The newest version of each check is applied whatever version is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from netlab.api.meta import Object

LEVELS = ("privileged", "baseline", "restricted")
Finding = tuple[str, str]
_UNCONFINED = '{} must not set securityContext.seccompProfile.type to "Unconfined"'
_SECCOMP = 'pod or {} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
_DEFAULT_CAPABILITIES = frozenset((
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"))
_SAFE_SYSCTLS = frozenset((
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start", "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem"))
_VOLUMES = frozenset(("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected",
                      "secret", "image"))
_SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")


def violations(metadata: Object, spec: Object, level: str) -> list[Finding]:
    """Return what a Pod violates of a level."""
    checks: Sequence[Callable[[Object, Object], Finding | None]] = ()
    if level != "privileged":
        checks = _BASELINE if level == "baseline" else [*_KEPT, *_RESTRICTED]
    return [found for check in checks if (found := check(metadata, spec)) is not None]


def said(found: Sequence[Finding]) -> str:
    """Return findings as the messages list them."""
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in found)


def _containers(spec: Object) -> Iterator[Object]:
    for part in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(part) or ()


def _security(holder: Object) -> Object:
    return holder.get("securityContext") or {}


def _names(found: Sequence[str], word: str = "container") -> str:
    quoted = ", ".join(f'"{name}"' for name in found)
    return f"{word}{'s' if len(found) > 1 else ''} {quoted}"


def _which(spec: Object, bad: Callable[[Object], Any]) -> list[str]:
    return [container["name"] for container in _containers(spec) if bad(container)]


def _privileged(_meta: Object, spec: Object) -> Finding | None:
    bad = _which(spec, lambda container: _security(container).get("privileged"))
    return ("privileged", f"{_names(bad)} must not set securityContext.privileged=true") if bad else None


def _namespaces(_meta: Object, spec: Object) -> Finding | None:
    bad = [f"{part}=true" for part in ("hostNetwork", "hostPID", "hostIPC") if spec.get(part)]
    return ("host namespaces", ", ".join(bad)) if bad else None


def _host_paths(_meta: Object, spec: Object) -> Finding | None:
    bad = [volume["name"] for volume in spec.get("volumes") or () if "hostPath" in volume]
    return ("hostPath volumes", _names(bad, "volume")) if bad else None


def _host_ports(_meta: Object, spec: Object) -> Finding | None:
    ports = {container["name"]: [port["hostPort"] for port in container.get("ports") or () if port.get("hostPort")]
             for container in _containers(spec)}
    bad = [name for name, found in ports.items() if found]
    numbers = sorted({number for found in ports.values() for number in found})
    if not bad:
        return None
    verb, noun = "use" if len(bad) > 1 else "uses", "hostPorts" if len(numbers) > 1 else "hostPort"
    return "hostPort", f"{_names(bad)} {verb} {noun} {', '.join(map(str, numbers))}"


def _capabilities(_meta: Object, spec: Object) -> Finding | None:
    added = {container["name"]: set((_security(container).get("capabilities") or {}).get("add") or ())
             - _DEFAULT_CAPABILITIES for container in _containers(spec)}
    bad = [name for name, found in added.items() if found]
    if not bad:
        return None
    every = ", ".join(f'"{name}"' for name in sorted(set().union(*added.values())))
    return "non-default capabilities", f"{_names(bad)} must not include {every} in securityContext.capabilities.add"


def _proc_mount(_meta: Object, spec: Object) -> Finding | None:
    bad = _which(spec, lambda container: _security(container).get("procMount") not in (None, "Default"))
    return ("procMount", f'{_names(bad)} must not set securityContext.procMount to "Unmasked"') if bad else None


def _sysctls(_meta: Object, spec: Object) -> Finding | None:
    bad = [entry["name"] for entry in _security(spec).get("sysctls") or () if entry.get("name") not in _SAFE_SYSCTLS]
    return ("forbidden sysctls", ", ".join(bad)) if bad else None


def _selinux(_meta: Object, spec: Object) -> Finding | None:
    def wrong(holder: Object) -> bool:
        found = _security(holder).get("seLinuxOptions") or {}
        return found.get("type", "") not in _SELINUX_TYPES or bool(found.get("user")) or bool(found.get("role"))
    bad = _setters(spec, wrong)
    return ("seLinuxOptions", f"{bad} set forbidden securityContext.seLinuxOptions") if bad else None


def _apparmor(metadata: Object, spec: Object) -> Finding | None:
    def wrong(holder: Object) -> bool:
        return (_security(holder).get("appArmorProfile") or {}).get("type") == "Unconfined"
    bad = _setters(spec, wrong)
    notes = [f'{key}="{value}"' for key, value in sorted((metadata.get("annotations") or {}).items())
             if key.startswith("container.apparmor.security.beta.kubernetes.io/")
             and value not in ("", "runtime/default") and not value.startswith("localhost/")]
    if not bad and not notes:
        return None
    return "forbidden AppArmor profile" + ("s" if len(notes) > 1 else ""), ", ".join(
        [*([f"{bad} must not set AppArmor profile type to \"Unconfined\""] if bad else []), *notes])


def _seccomp(_meta: Object, spec: Object) -> Finding | None:
    bad = _setters(spec, lambda holder: (_security(holder).get("seccompProfile") or {}).get("type") == "Unconfined")
    return ("seccompProfile", _UNCONFINED.format(bad)) if bad else None


def _host_process(_meta: Object, spec: Object) -> Finding | None:
    bad = _setters(spec, lambda holder: (_security(holder).get("windowsOptions") or {}).get("hostProcess"))
    return ("hostProcess", f"{bad} must not set securityContext.windowsOptions.hostProcess=true") if bad else None


def _probe_hosts(_meta: Object, spec: Object) -> Finding | None:
    def hosts(container: Object) -> set[str]:
        hooks = [container.get(part) or {} for part in ("livenessProbe", "readinessProbe", "startupProbe")]
        hooks += [(container.get("lifecycle") or {}).get(part) or {} for part in ("postStart", "preStop")]
        return {(hook.get(kind) or {}).get("host", "") for hook in hooks for kind in ("httpGet", "tcpSocket")} - {
            "", "127.0.0.1", "::1"}
    bad = [container["name"] for container in _containers(spec) if hosts(container)]
    every = sorted(set().union(*(hosts(container) for container in _containers(spec)), set()))
    if not bad:
        return None
    return "probe or lifecycle host", f"{_names(bad)} uses probe or lifecycle host{'s' if len(every) > 1 else ''} " \
                                      + ", ".join(f'"{host}"' for host in every)


def _setters(spec: Object, wrong: Callable[[Object], Any]) -> str:
    """Return "pod and container "a"", whoever does what is wrong; "" for nobody."""
    parts = ["pod"] if wrong(spec) else []
    bad = _which(spec, wrong)
    return " and ".join([*parts, *([_names(bad)] if bad else [])])


def _escalation(_meta: Object, spec: Object) -> Finding | None:
    if (spec.get("os") or {}).get("name") == "windows":
        return None
    bad = _which(spec, lambda container: _security(container).get("allowPrivilegeEscalation") is not False)
    return ("allowPrivilegeEscalation != false",
            f"{_names(bad)} must set securityContext.allowPrivilegeEscalation=false") if bad else None


def _dropped(_meta: Object, spec: Object) -> Finding | None:
    if (spec.get("os") or {}).get("name") == "windows":
        return None

    def capabilities(container: Object) -> Object:
        return _security(container).get("capabilities") or {}

    missing = _which(spec, lambda container: "ALL" not in (capabilities(container).get("drop") or ()))
    adding = _which(spec, lambda container: set(capabilities(container).get("add") or ()) - {"NET_BIND_SERVICE"})
    texts = []
    if missing:
        texts.append(f'{_names(missing)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        every = sorted({name for container in _containers(spec) for name in capabilities(container).get("add") or ()}
                       - {"NET_BIND_SERVICE"})
        texts.append(f"{_names(adding)} must not include {', '.join(f'{chr(34)}{name}{chr(34)}' for name in every)} in "
                     "securityContext.capabilities.add")
    return ("unrestricted capabilities", "; ".join(texts)) if texts else None


def _volumes(_meta: Object, spec: Object) -> Finding | None:
    bad = [(volume["name"], kind) for volume in spec.get("volumes") or () for kind in volume
           if kind != "name" and kind not in _VOLUMES]
    if not bad:
        return None
    kinds = sorted({kind for _, kind in bad})
    quoted = ", ".join(f'"{kind}"' for kind in kinds)
    verb, noun = "use" if len(bad) > 1 else "uses", "types" if len(kinds) > 1 else "type"
    volumes = _names([name for name, _ in bad], "volume")
    return "restricted volume types", f"{volumes} {verb} restricted volume {noun} {quoted}"


def _non_root(_meta: Object, spec: Object) -> Finding | None:
    whole = _security(spec).get("runAsNonRoot")
    bad = _which(spec, lambda container: _security(container).get("runAsNonRoot") is False)
    unset = _which(spec, lambda container: _security(container).get("runAsNonRoot") is None)
    if bad:
        return "runAsNonRoot != true", f"{_names(bad)} must not set securityContext.runAsNonRoot=false"
    if whole is True or not unset:
        return None
    if whole is False:
        return "runAsNonRoot != true", "pod must not set securityContext.runAsNonRoot=false"
    return "runAsNonRoot != true", f"pod or {_names(unset)} must set securityContext.runAsNonRoot=true"


def _user(_meta: Object, spec: Object) -> Finding | None:
    bad = _setters(spec, lambda holder: _security(holder).get("runAsUser") == 0)
    return ("runAsUser=0", f"{bad} must not set runAsUser=0") if bad else None


def _seccomp_set(_meta: Object, spec: Object) -> Finding | None:
    if (spec.get("os") or {}).get("name") == "windows":
        return None

    def kind(holder: Object) -> Any:
        return (_security(holder).get("seccompProfile") or {}).get("type")

    good = ("RuntimeDefault", "Localhost")
    wrong = _setters(spec, lambda holder: kind(holder) not in (None, *good))
    if wrong:
        return "seccompProfile", _UNCONFINED.format(wrong)
    unset = _which(spec, lambda container: kind(container) is None)
    if kind(spec) in good or not unset:
        return None
    return "seccompProfile", _SECCOMP.format(_names(unset))


_KEPT = (_apparmor, _namespaces, _host_paths, _host_ports, _host_process, _privileged, _proc_mount, _selinux, _sysctls,
         _probe_hosts)
_BASELINE = (_apparmor, _capabilities, *_KEPT[1:8], _seccomp, _sysctls, _probe_hosts)
_RESTRICTED = (_escalation, _dropped, _volumes, _non_root, _user, _seccomp_set)
"""What restricted adds to baseline; it replaces baseline's checks of capabilities and of seccomp."""
