"""A request of the resource API on its way through admission, strategy and store."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import orjson

from netlab.api import doubles, meta, schema, validate
from netlab.api.meta import Object
from netlab.apiserver import negotiate, nulls, status, straight, write_options, zeros
from netlab.apiserver.crd import structural
from netlab.apiserver.endpoint import Endpoint
from netlab.apiserver.http import Request, User
from netlab.apiserver.route import Target
from netlab.apiserver.subresources.kinds import kind_of
from netlab.apiserver.validation.errors import invalid, invalid_object

if TYPE_CHECKING:
    from netlab.apiserver.api import Api
    from netlab.errors import ApiError

Strictness = Literal["Strict", "Warn", "Ignore"]
_VALIDATION: dict[str, Strictness] = {"": "Warn", "Ignore": "Ignore", "Warn": "Warn", "Strict": "Strict"}
_METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_AGENT = re.compile(r"[^/\s]+")


_OPTIONS = {"PUT": "UpdateOptions", "PATCH": "PatchOptions", "DELETE": "DeleteOptions"}


@dataclass(slots=True)
class Call:
    """What the verbs work on. `now` is the request's one reading of the clock (Unix seconds)."""

    api: Api
    request: Request
    target: Target
    endpoint: Endpoint
    now: float
    form: negotiate.Form = field(default_factory=negotiate.Form)
    misfit: ApiError | None = None
    """What was sent is of another kind than the custom resource: said once it is known to be there."""

    @property
    def user(self) -> User:
        """Return who asks."""
        return self.request.user

    @property
    def namespace(self) -> str:
        """Return the namespace in the path."""
        return self.target.namespace

    @property
    def name(self) -> str:
        """Return the name in the path."""
        return self.target.name

    def time(self) -> str:
        """Return the request's time as metav1.Time."""
        return meta.timestamp(self.now)

    def dry_run(self) -> bool:
        """Tell whether nothing is to be stored.

        Raises:
            ApiError: 422 for a value other than All.
        """
        values = self.request.query.get("dryRun", [])
        return is_dry_run(values, _OPTIONS.get(self.request.method, "CreateOptions"))

    def manager(self) -> str:
        """Return the field manager: the parameter, or the user agent's first word, as upstream."""
        given = self.request.arg("fieldManager")
        if given:
            return given
        match = _AGENT.match(self.request.headers.get("User-Agent", ""))
        return match.group()[:128] if match else "unknown"

    def strictness(self) -> Strictness:
        """Return how unknown and double fields are taken: Strict, Warn or Ignore."""
        return _VALIDATION.get(self.request.arg("fieldValidation"), "Warn")

    async def read_object(self) -> Object:
        """Return the object in the body, checked against the kind's table; unknown fields are dropped or refused.

        Raises:
            ApiError: 400 for another kind, a wrong type, or (Strict) an unknown field; 415; 422 for a parameter.
        """
        raw = await self.request.body()
        write_options.check(self.request, _OPTIONS.get(self.request.method, "CreateOptions"))
        resource = self.endpoint.resource
        obj = negotiate.decode(raw, self.request.headers, kind=resource.kind)
        text = raw if negotiate.is_json(raw, self.request.headers) and not _once(raw, obj) else b""
        kind, version = obj.get("kind") or resource.kind, obj.get("apiVersion") or resource.api_version
        if (kind, version) != (resource.kind, resource.api_version):
            self._other_kind(str(kind), str(version), str((obj.get("metadata") or {}).get("name") or ""))
        obj["kind"], obj["apiVersion"] = resource.kind, resource.api_version
        if "yaml" in self.request.headers.get("Content-Type", ""):
            said = self.doubled(raw)
            if said and self.strictness() == "Strict":
                raise status.bad_request(f'{resource.kind} in version "{resource.version}" cannot be handled as a '
                                         f"{resource.kind}: strict decoding error: {said}")
        return self.checked(text, obj)

    def doubled(self, raw: bytes, prefix: str = "") -> str:
        """Return what is wrong with a YAML text that has keys twice, "" if nobody wants to know; warn if asked for."""
        mode = self.strictness()
        found = doubles.doubles(raw) if mode != "Ignore" else ()
        said = prefix + doubles.sentence(found) if found else ""
        if said and mode == "Warn":
            self.request.warnings.append(said)
        return said

    async def read_part(self) -> Object:
        """Return what was sent to a subresource that takes a kind of its own, such as an Eviction, checked likewise.

        Raises:
            ApiError: 400 for a wrong type or (Strict) an unknown field; 415; 422 for a parameter.
        """
        write_options.check(self.request, _OPTIONS.get(self.request.method, "CreateOptions"))
        group, version, kind = kind_of(self.endpoint.resource, self.target.subresource)
        api_version = f"{group}/{version}" if group else version
        raw = await self.request.body()
        obj = negotiate.decode(raw, self.request.headers)
        mode = self.strictness()
        try:
            text = raw if negotiate.is_json(raw, self.request.headers) else b""
            found = validate.handle(text, obj, api_version, kind, mode=mode)
        except ValueError as error:
            raise status.bad_request(f"json parse error: {error}") from None
        self.request.warnings += [said for said in found if said not in self.request.warnings]
        obj = validate.prune(obj, api_version, kind) if found or mode == "Ignore" else obj
        obj.setdefault("kind", kind)
        obj.setdefault("apiVersion", api_version)
        return obj

    def _other_kind(self, kind: str, version: str, name: str) -> None:
        resource = self.endpoint.resource
        known = self.endpoint.custom is not None or self.api.catalog.by_kind(version, kind) is not None
        if not known or (kind != resource.kind and self.endpoint.custom is None):
            raise status.another_kind(resource, kind, version, known=known)
        if version != resource.api_version:
            raise status.bad_request(f"the API version in the data ({version}) does not match the expected API "
                                     f"version ({resource.api_version})")
        self.misfit = invalid_object(replace(resource, kind=kind), name, [
            invalid("kind", kind, f"must be {resource.kind}")])

    def checked(self, text: bytes, obj: Object, *, patched: bool = False, shown: str = "") -> Object:
        """Return the object as Go would have decoded it: known fields only, no nulls, no zeros that Go leaves out.

        Args:
            text: the request's body as JSON, to look for doubled fields; b"" when there are none (see `_once`).
            obj: the object in it, or what the patch in it makes (`patched`).
            shown: how errors show the patch, if not as it was sent.

        Raises:
            ApiError: 400 for a wrong type, and where fieldValidation asks so for unknown and doubled fields.
        """
        return self._decoded(text, obj, self.strictness(), patched=patched, shown=shown)

    def reread(self, obj: Object) -> Object:
        """Return what admission made of an object as Go would have decoded it: unknown fields are gone.

        Raises:
            ApiError: 400 for a wrong type.
        """
        return self._decoded(b"", obj, "Ignore", patched=False)

    def _decoded(self, text: bytes, obj: Object, mode: Strictness, *, patched: bool, shown: str = "") -> Object:
        if self.endpoint.custom is not None:
            return self._custom(text, obj, self.endpoint.custom.schema, mode, patched=patched)
        resource = self.endpoint.resource
        shape = schema.table().kind(resource.api_version, resource.kind)
        plain = straight.read(obj, shape) if shape is not None else None
        if plain is not None and (not text or mode == "Ignore" or _once(text)):
            nulls.tidy(plain.setdefault("metadata", {}))
            return plain
        asked = text, obj, resource.api_version, resource.kind
        try:
            found = validate.handle_patch(*asked, mode=mode, shown=shown) if patched else \
                validate.handle(*asked, mode=mode)
        except ValueError as error:  # only reading the text a second time can raise it
            raise status.bad_request(f"json parse error: {error}") from None
        self.request.warnings += [said for said in found if said not in self.request.warnings]
        if found or mode == "Ignore":
            obj = validate.prune(obj, resource.api_version, resource.kind)
        return self.as_written(obj)

    def as_written(self, obj: Object) -> Object:
        """Return an object as Go writes what it has decoded: without nulls, and the zeros that it leaves out."""
        resource = self.endpoint.resource
        if self.endpoint.custom is not None:
            metadata = nulls.settled(obj["metadata"], schema.table().struct(_METADATA))
            obj = {**structural.as_written(obj), "metadata": metadata}
        else:
            shape = schema.table().kind(resource.api_version, resource.kind)
            plain = straight.read(obj, shape) if shape is not None else None
            obj = plain if plain is not None else nulls.settled(obj, shape)
            if plain is None and shape is not None:
                obj = zeros.left_out(obj, shape)
        nulls.tidy(obj.setdefault("metadata", {}))
        return obj

    def _custom(self, text: bytes, obj: Object, schema: structural.Schema, mode: Strictness, *,
                patched: bool) -> Object:
        """Check a custom resource: its metadata as everybody's, the rest is pruned by the definition's schema."""
        resource = self.endpoint.resource
        obj.setdefault("metadata", {})
        envelope: Object = {"metadata": obj["metadata"]}
        strange = validate.handle(b"", envelope, "v1", "PartialObjectMetadata")
        metadata = nulls.settled(validate.prune(envelope, "v1", "PartialObjectMetadata"), None)["metadata"]
        nulls.tidy(metadata)
        sent = obj
        obj, unknown = structural.prune({**structural.as_written(obj), "metadata": metadata}, schema)
        structural.drop_nulls(obj, schema)
        if self.endpoint.custom is not None and self.endpoint.custom.embeds:
            for path, inner in structural.embedded(obj, schema):
                found = validate.handle(b"", {"metadata": inner["metadata"]}, "v1", "PartialObjectMetadata")
                strange += tuple(text.replace('"metadata', f'"{path}metadata') for text in found)
                inner |= validate.prune({"metadata": inner["metadata"]}, "v1", "PartialObjectMetadata")
        try:
            problems = [f'duplicate field "{path}"' for path in validate.duplicates(text)]
        except ValueError as error:
            raise status.bad_request(f"json parse error: {error}") from None
        problems += [*strange, *(f'unknown field "{path}"' for path in unknown)]
        if problems and mode == "Strict":
            said = "strict decoding error: " + ", ".join(problems)
            if patched:
                raise validate.invalid_patch(validate.as_json(sent) if unknown or strange else text.decode(), said)
            raise status.bad_request(f'{resource.kind} in version "{resource.version}" cannot be handled as a '
                                     f"{resource.kind}: {said}")
        if mode == "Warn":
            self.request.warnings += [said for said in problems if said not in self.request.warnings]
        return obj


def _once(text: bytes, value: Any = None) -> bool:
    """Tell whether JSON surely has no member twice: it has as many quotes as `value`, which was read from it.

    That costs a tenth of a look at every member. An escape may stand for a quote, so whoever uses them is looked at.
    """
    if b"\\u" in text:
        return False
    try:
        value = orjson.loads(text) if value is None else value
    except ValueError:
        return False
    return text.count(b'"') == orjson.dumps(value).count(b'"')


def is_dry_run(values: list[str], kind: str) -> bool:
    """Tell what dryRun parameters (or DeleteOptions.dryRun) ask for; `kind` is that of the options they belong to.

    Raises:
        ApiError: 422 for a value other than All.
    """
    if any(value != "All" for value in values):
        raise status.bad_options(kind, "dryRun", "FieldValueNotSupported", "Unsupported value: "
                                 f'{orjson.dumps(values).decode()}: supported values: "All"')
    return bool(values)


def encoded(obj: Object) -> bytes:
    """Return an object that is not stored (a dry run, a review) as JSON."""
    return orjson.dumps(obj)
