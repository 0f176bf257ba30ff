"""Which FlowSchema a request belongs to. Pure.

k8s:staging/src/k8s.io/apiserver/pkg/util/flowcontrol/rule.go
"""

from __future__ import annotations

from collections.abc import Sequence

from netlab.api.meta import Object
from netlab.apiserver.auth.authorize import Attributes
from netlab.apiserver.http import User

_UNCOUNTED = frozenset(("attach", "exec", "log", "portforward", "proxy"))


def counted(asked: Attributes) -> bool:
    """Tell whether a request is one that is judged at all: those that may last for hours are not, but watches are."""
    return asked.verb != "proxy" and asked.subresource not in _UNCOUNTED


def matches(spec: Object, asked: Attributes) -> bool:
    """Tell whether the spec of a FlowSchema is about a request."""
    return any(any(_is(subject, asked.user) for subject in rule.get("subjects") or ()) and (
        any(_path(row, asked) for row in rule.get("nonResourceRules") or ()) if asked.path
        else any(_resource(row, asked) for row in rule.get("resourceRules") or ())) for rule in spec.get("rules") or ())


def _is(subject: Object, user: User) -> bool:
    kind = subject.get("kind", "")
    if kind == "User":
        return (subject.get("user") or {}).get("name") in ("*", user.name)
    if kind == "Group":
        name = (subject.get("group") or {}).get("name")
        return name == "*" or name in user.groups
    account = subject.get("serviceAccount") or {}
    if kind != "ServiceAccount" or not account:
        return False
    prefix = f"system:serviceaccount:{account.get('namespace', '')}:"
    return user.name.startswith(prefix) if account.get("name") == "*" else user.name == prefix + account.get("name", "")


def _has(listed: Sequence[str] | None, wanted: str) -> bool:
    """Tell whether a list names something; a star counts only when it stands alone."""
    return bool(listed) and (list(listed or ()) == ["*"] or wanted in (listed or ()))


def _resource(row: Object, asked: Attributes) -> bool:
    whole = f"{asked.resource}/{asked.subresource}" if asked.subresource else asked.resource
    if not (_has(row.get("verbs"), asked.verb) and _has(row.get("resources"), whole)
            and _has(row.get("apiGroups"), asked.group)):
        return False
    return _has(row.get("namespaces"), asked.namespace) if asked.namespace else bool(row.get("clusterScope"))


def _path(row: Object, asked: Attributes) -> bool:
    return _has(row.get("verbs"), asked.verb) and any(
        one in ("*", asked.path) or asked.path.startswith(f"{one.removesuffix('*').removesuffix('/')}/")
        for one in row.get("nonResourceURLs") or ())
