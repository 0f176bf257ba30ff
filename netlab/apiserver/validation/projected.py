"""Files that the API server's objects become: projected volumes and the downward API (core/validation)."""

from __future__ import annotations

from collections.abc import Iterator

from netlab.api.meta import Object
from netlab.apiserver.validation import env, names, paths
from netlab.apiserver.validation.errors import (
    FieldError,
    as_struct,
    forbidden,
    invalid,
    required,
    too_long,
    unsupported,
    wrong,
)
from netlab.apiserver.validation.selectors import label_selector
from netlab.apiserver.validation.volume_sources import key_to_path

_FIELDS = ("metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid")
_LEAST_TOKEN, _MOST_TOKEN = 600, 1 << 32
_KEYS = ("RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519")
_HOUR, _DAY = 3600, 86400
_MOST_DAYS = 91
_SIGNER_LIMIT = 571
_DOMAIN_LIMIT = 253
_CONFLICT = "conflicting duplicate paths"
_BUNDLE = dict.fromkeys(("Name", "SignerName", "LabelSelector", "Optional")) | {"Path": ""}


def projected(source: Object, path: str) -> Iterator[FieldError]:
    """Check a projected volume: no two of its sources may write the same file."""
    yield from paths.mode(source.get("defaultMode"), f"{path}.defaultMode")
    taken: set[str] = set()
    for at, part in enumerate(source.get("sources") or ()):
        field = f"{path}.sources[{at}]"
        given = 0
        for kind, check in (
            ("secret", _keyed),
            ("configMap", _keyed),
            ("downwardAPI", _files),
            ("serviceAccountToken", _token),
            ("clusterTrustBundle", _bundle),
            ("podCertificate", _certificate),
        ):
            if part.get(kind) is not None:
                given += 1
                yield from check(part[kind], f"{field}.{kind}", path, taken)
        if given > 1:
            yield forbidden(field, "may not specify more than 1 volume type per source")


def downward(source: Object, path: str) -> Iterator[FieldError]:
    """Check a volume of the downward API. (Upstream's paths have no place in the list.)"""
    yield from paths.mode(source.get("defaultMode"), f"{path}.defaultMode")
    for file in source.get("items") or ():
        yield from _file(file, path)


def _file(file: Object, path: str) -> Iterator[FieldError]:
    if not file.get("path"):
        yield required(f"{path}.path")
    yield from paths.not_reserved(file.get("path", ""), f"{path}.path")
    reference, amount = file.get("fieldRef"), file.get("resourceFieldRef")
    if reference is not None:
        yield from env.field_of_pod(reference, f"{path}.fieldRef", _FIELDS)
        if amount is not None:
            yield invalid(path, "resource", "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif amount is not None:
        yield from env.amount_of_container(amount, f"{path}.resourceFieldRef", volume=True)
    else:
        yield required(path, "one of fieldRef and resourceFieldRef is required")
    yield from paths.mode(file.get("mode"), f"{path}.mode")


def _take(where: str, shown: str, whole: str, taken: set[str]) -> Iterator[FieldError]:
    if where in taken:
        yield invalid(whole, shown, _CONFLICT)
    taken.add(where)


def _keyed(source: Object, path: str, whole: str, taken: set[str]) -> Iterator[FieldError]:
    if not source.get("name"):
        yield required(f"{path}.name")
    for at, item in enumerate(source.get("items") or ()):
        yield from key_to_path(item, f"{path}.items[{at}]")
        if item.get("path"):
            yield from _take(item["path"], source.get("name", ""), whole, taken)


def _files(source: Object, path: str, whole: str, taken: set[str]) -> Iterator[FieldError]:
    for file in source.get("items") or ():
        yield from _file(file, path)
        if file.get("path"):
            yield from _take(file["path"], file["path"], whole, taken)


def _token(source: Object, path: str, whole: str, _taken: set[str]) -> Iterator[FieldError]:
    seconds = source.get("expirationSeconds", 0)
    if seconds < _LEAST_TOKEN:
        yield invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration less than 10 minutes")
    if seconds > _MOST_TOKEN:
        yield invalid(f"{path}.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds")
    if not source.get("path"):
        yield required(f"{whole}.path")
    else:
        yield from paths.not_reserved(source["path"], f"{whole}.path")


def _bundle(source: Object, path: str, whole: str, taken: set[str]) -> Iterator[FieldError]:
    name, signer = source.get("name"), source.get("signerName")
    if name is not None and signer is not None:
        yield invalid(path, as_struct(source, _BUNDLE), "only one of name and signerName may be used")
    elif name is not None:
        if not name:
            yield required(f"{path}.name", "must be a valid object name")
        for said in _bundle_name(name):
            yield invalid(f"{path}.name", name, f"not a valid clustertrustbundlename: {said}")
        if source.get("labelSelector") is not None:
            yield invalid(
                f"{path}.labelSelector", source["labelSelector"], "labelSelector must be unset if name is specified"
            )
    elif signer is not None:
        if not signer:
            yield required(f"{path}.signerName", "must be a valid signer name")
        yield from signer_name(signer, f"{path}.signerName")
        yield from label_selector(source.get("labelSelector"), f"{path}.labelSelector")
    else:
        yield required(path, "either name or signerName must be specified")
    where = source.get("path", "")
    if not where:
        yield required(f"{path}.path")
    yield from paths.not_reserved(where, f"{path}.path")
    yield from _take(where, where, whole, taken)


def _bundle_name(name: str) -> list[str]:
    """Complain about a trust bundle's name, which has its signer's before the last colon, or none."""
    return names.dns_subdomain(name.rpartition(":")[2])


def _certificate(source: Object, path: str, whole: str, taken: set[str]) -> Iterator[FieldError]:
    signer = source.get("signerName", "")
    yield from signer_name(signer, f"{path}.signerName")
    if source.get("keyType") not in _KEYS:
        yield unsupported(f"{path}.keyType", source.get("keyType", ""), _KEYS)
    seconds = source.get("maxExpirationSeconds")
    if seconds is not None:
        field = f"{path}.maxExpirationSeconds"
        if seconds < _HOUR:
            yield invalid(field, seconds, f"if provided, maxExpirationSeconds must be >= {_HOUR}")
        most = _DAY if signer.startswith("kubernetes.io/") else _MOST_DAYS * _DAY
        if seconds > most:
            yield invalid(field, seconds, f"if provided, maxExpirationSeconds must be <= {most}")
    given = [part for part in ("credentialBundlePath", "keyPath", "certificateChainPath") if source.get(part)]
    for part in given:
        yield from paths.not_reserved(source[part], f"{path}.{part}")
        yield from _take(source[part], source[part], whole, taken)
    if not given:
        yield required(path, "specify at least one of credentialBundlePath, keyPath, and certificateChainPath")


def signer_name(name: str, path: str) -> Iterator[FieldError]:
    """Check a signer's name: a domain of two or more labels, and one more name in it."""
    if not name:
        yield required(path)
        return
    if name.count("/") != 1:
        yield invalid(path, name, "must be a fully qualified domain and path of the form 'example.com/signer-name'")
        return
    domain, _, rest = name.partition("/")
    if len(domain) > _DOMAIN_LIMIT:
        yield too_long(path, _DOMAIN_LIMIT)
    for text, form in ((domain, names.dns_label), (rest, names.dns_subdomain)):
        bad = next((label for label in text.split(".") if form(label)), None)
        if bad is not None:
            yield from wrong(path, text, (f'validating label "{bad}": {said}' for said in form(bad)))
        if text is domain and "." not in domain:
            yield invalid(path, domain, "should be a domain with at least two segments separated by dots")
    if len(name) > _SIGNER_LIMIT:
        yield too_long(path, _SIGNER_LIMIT)
