"""CertificateSigningRequests: asked for once, decided by an approval, answered by a signer in the status."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from netlab.api import meta
from netlab.api.meta import Object
from netlab.apiserver.strategies.base import Strategy
from netlab.apiserver.validation import names
from netlab.apiserver.validation.errors import (
    FieldError,
    duplicate,
    each_once,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)
from netlab.apiserver.validation.meta import immutable, object_meta_update

if TYPE_CHECKING:
    from netlab.apiserver.http import User

DECISIONS = ("Approved", "Denied")
_LEAST_SECONDS = 600
_SIGNER_LIMIT = 571
_DOMAIN_LIMIT = 253
_BLOCK = re.compile(rb"-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----.+?-----END (?:NEW )?CERTIFICATE REQUEST-----",
                    re.DOTALL)
_USAGES = frozenset(("any", "client auth", "code signing", "cert sign", "content commitment", "crl sign",
                     "data encipherment", "decipher only", "digital signature", "email protection", "encipher only",
                     "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement", "key encipherment",
                     "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth", "signing",
                     "timestamping"))


class SigningRequestStrategy(Strategy):
    """certificates.k8s.io/v1."""

    def name_form(self, name: str) -> list[str]:
        """Anything that can stand in a path."""
        return names.path_segment(name)

    def ask(self, obj: Object, user: User) -> None:
        """The request speaks for whoever sends it."""
        spec = obj.setdefault("spec", {})
        for part in ("username", "uid", "groups", "extra"):
            spec.pop(part, None)
        spec["username"] = user.name
        if user.uid:
            spec["uid"] = user.uid
        if user.groups:
            spec["groups"] = list(user.groups)
        if user.extra:
            spec["extra"] = {key: list(values) for key, values in user.extra.items()}

    def prepare_create(self, obj: Object) -> None:
        """Start undecided."""
        obj["status"] = {}

    def prepare_update(self, obj: Object, old: Object) -> None:
        """Keep request and status."""
        super().prepare_update(obj, old)
        obj["spec"] = old.get("spec", {})

    def prepare_part(self, part: str, obj: Object, old: Object) -> None:  # noqa: ARG002
        """An approval changes the conditions and nothing else."""
        conditions = (obj.get("status") or {}).get("conditions") or []
        _stamp(conditions, old)
        obj["spec"] = old.get("spec", {})
        obj["status"] = {**(old.get("status") or {}), "conditions": conditions}

    def prepare_status(self, obj: Object, old: Object) -> None:
        """A signer neither approves nor denies."""
        super().prepare_status(obj, old)
        state = obj.setdefault("status", {})
        decided = [condition for condition in (old.get("status") or {}).get("conditions") or []
                   if condition.get("type") in DECISIONS]
        others = [condition for condition in state.get("conditions") or [] if condition.get("type") not in DECISIONS]
        state["conditions"] = [*decided, *others]
        _stamp(state["conditions"], old)
        if not state["conditions"]:
            del state["conditions"]

    def validate(self, obj: Object) -> list[FieldError]:
        """Check the request."""
        return [*super().validate(obj), *_spec(obj.get("spec") or {}), *_conditions(obj)]

    def validate_update(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that the request stays."""
        return [*object_meta_update(obj["metadata"], old["metadata"]), *immutable(obj.get("spec"), old.get("spec"),
                                                                                  "spec")]

    def validate_part(self, part: str, obj: Object, old: Object) -> list[FieldError]:  # noqa: ARG002
        """Check that a decision is not taken back."""
        errors = [*object_meta_update(obj["metadata"], old["metadata"]), *_conditions(obj)]
        return errors + _kept(obj, old, DECISIONS)

    def validate_status(self, obj: Object, old: Object) -> list[FieldError]:
        """Check that a failure stays, and that a certificate once issued does."""
        errors = [*super().validate_status(obj, old), *_conditions(obj), *_kept(obj, old, (*DECISIONS, "Failed"))]
        before, after = ((one.get("status") or {}).get("certificate") for one in (old, obj))
        if before and before != after:
            errors.append(forbidden("status.certificate", "updates may not modify a non-empty certificate value"))
        elif after and not before:
            errors += _certificate(after)
        return errors


def _stamp(conditions: list[Any], old: Object) -> None:
    """Give every condition its times: those that it had, or now."""
    before = {condition.get("type"): condition for condition in (old.get("status") or {}).get("conditions") or []}
    now = meta.timestamp(time.time())
    for condition in conditions:
        known = before.get(condition.get("type"))
        condition.setdefault("lastUpdateTime", now)
        condition.setdefault("lastTransitionTime", known.get("lastTransitionTime", now) if known else now)


def _spec(spec: Object) -> list[FieldError]:
    errors = _request(spec.get("request", ""))
    usages = spec.get("usages") or []
    if not usages:
        errors.append(required("spec.usages", "usages must be provided"))
    errors += each_once("spec.usages", usages, _USAGES)
    signer = spec.get("signerName", "")
    if signer == "kubernetes.io/legacy-unknown":
        errors.append(invalid("spec.signerName", signer, "the legacy signerName is not allowed via this API version"))
    else:
        errors += _signer(signer)
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < _LEAST_SECONDS:
        errors.append(invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 600 seconds "
                                                                 "(10 minutes)"))
    return errors


def _signer(signer: str) -> Iterator[FieldError]:
    """Check the name of a signer: a domain, a slash, and a path of names with dots between them."""
    field = "spec.signerName"
    if not signer:
        yield required(field, "signerName must be provided")
        return
    domain, slash, path = signer.partition("/")
    if not slash or "/" in path:
        yield invalid(field, signer, "must be a fully qualified domain and path of the form "
                                     "'example.com/signer-name'")
        return
    if len(domain) > _DOMAIN_LIMIT:
        yield too_long(field, _DOMAIN_LIMIT)
    labels = domain.split(".")
    yield from _first_wrong(field, domain, labels, names.dns_label)
    if len(labels) < 2:
        yield invalid(field, domain, "should be a domain with at least two segments separated by dots")
    yield from _first_wrong(field, path, path.split("."), names.dns_subdomain)
    if len(signer) > _SIGNER_LIMIT:
        yield too_long(field, _SIGNER_LIMIT)


def _first_wrong(field: str, text: str, parts: list[str], form: Callable[[str], list[str]]) -> Iterator[FieldError]:
    part, said = next(((part, said) for part in parts if (said := form(part))), ("", []))
    for why in said:
        yield invalid(field, text, f'validating label "{part}": {why}')


def _request(text: str) -> list[FieldError]:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    found = _BLOCK.search(raw)
    if found is None:
        return [invalid("spec.request", text, "PEM block type must be CERTIFICATE REQUEST")]
    from cryptography import x509
    try:
        request = x509.load_pem_x509_csr(found.group())
        if request.is_signature_valid:
            return []
        said = "signature check failed"
    except ValueError as error:
        said = str(error)
    return [invalid("spec.request", text, said)]


def _certificate(text: str) -> list[FieldError]:
    from cryptography import x509
    try:
        x509.load_pem_x509_certificates(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error):
        return [invalid("status.certificate", "<certificate data>", "must contain one or more PEM blocks")]
    return []


def _conditions(obj: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[str] = set()
    for at, condition in enumerate((obj.get("status") or {}).get("conditions") or []):
        field, kind, state = f"status.conditions[{at}]", condition.get("type", ""), condition.get("status", "")
        if not kind:
            errors.append(required(f"{field}.type"))
        if kind in (*DECISIONS, "Failed") and state != "True":
            errors.append(not_supported(f"{field}.status", state, ("True",)) if state else
                          required(f"{field}.status", "must be True"))
        elif state not in ("True", "False", "Unknown"):
            errors.append(not_supported(f"{field}.status", state, ("False", "True", "Unknown")))
        if kind in seen:
            errors.append(duplicate(f"{field}.type", kind))
        seen.add(kind)
    if {"Approved", "Denied"} <= seen:
        errors.append(invalid("status.conditions", "Denied", "Approved and Denied conditions are mutually exclusive"))
    return errors


def _kept(obj: Object, old: Object, kinds: tuple[str, ...]) -> list[FieldError]:
    before, after = ({condition.get("type") for condition in (one.get("status") or {}).get("conditions") or []}
                     for one in (old, obj))
    return [forbidden("status.conditions", f"updates may not remove a condition of type \"{kind}\"")
            for kind in kinds if kind in before - after]
