"""What was asked for: a scenario file as frozen values, every mistake in it told by file, line, field and remedy.

Pure but for reading the files. The schema that editors use is scenarios/schema.json.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from netlab.errors import ManifestError, NotFound, UsageError
from netlab.lab import check, documents, endpoints, networking, plan, source
from netlab.lab.check import Check
from netlab.lab.external import FIELDS as EXTERNAL
from netlab.lab.external import PREFIX, External
from netlab.lab.networking import Networking
from netlab.lab.plan import STORES, IpFamily, NodeWish, Store
from netlab.lab.source import Field

FIELDS = ("title", "nodes", "network", "networking", "kubeProxy", "store", "manifests", "next", "checks")


@dataclass(frozen=True)
class Scenario:
    """A lab as asked for. `nodes` counts the control-plane node; `file` is "" when there was none.

    `wishes` say what is asked of single nodes, the control plane's first; nodes after the last one are plain workers.
    """

    name: str
    title: str = ""
    file: str = ""
    nodes: int = 3
    wishes: tuple[NodeWish, ...] = ()
    backend: Literal["host-gw", "vxlan"] = "host-gw"
    networking: Networking = field(default_factory=Networking)
    store: Store = "embedded"
    store_members: int = 1
    external: External | None = None
    objects: tuple[dict[str, Any], ...] = ()
    next: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def lab(self) -> str:
        """Return the name of a lab of it where no other is asked for: of the form that labs' names have."""
        return _lab_name(self.name)

    def with_nodes(self, count: int) -> Scenario:
        """Return the same with another number of nodes.

        Raises:
            UsageError: that many can't be.
        """
        if not 1 <= count <= 200:
            raise UsageError(f"{count} nodes: choose 1 (the control plane alone) to 200")
        return replace(self, nodes=count)

    def with_networking(self, *, family: IpFamily | None = None, mode: str = "") -> Scenario:
        """Return the same with other address families, whose usual ranges it then has, or another kube-proxy mode.

        Raises:
            UsageError: a mode that is none.
        """
        changed = self.networking
        if family is not None and family != changed.family:
            changed = replace(changed, family=family, pods=(), services=())
        if mode:
            if mode not in networking.MODES:
                raise UsageError(f"proxy mode {mode}: choose {', '.join(networking.MODES)}")
            changed = replace(changed, mode=mode)
        return replace(self, networking=changed)

    def with_store(self, store: Store | None, members: int | None) -> Scenario:
        """Return the same with its objects kept elsewhere; None leaves what there is.

        Raises:
            UsageError: that store can't have so many members.
        """
        kind, count = store or self.store, members or (self.store_members if store in (None, self.store) else 1)
        return replace(self, store=kind, store_members=plan.check_members(kind, count),
                       external=self.external if kind == "external" else None)

    def with_external(self, servers: str, *, ca: str, certificate: str, key: str, prefix: str) -> Scenario:
        """Return the same with the external etcd that kube-apiserver's flags say: URLs with commas between, and files.

        Other servers come without what the scenario says of its own; "" leaves what there is.

        Raises:
            UsageError: a flag is wrong, or there is none for the servers.
        """
        if self.store != "external" and not servers:
            if ca or certificate or key or prefix:
                raise UsageError("--etcd-servers is missing: the other --etcd flags are about an external etcd")
            return self
        there = self.external if self.external is not None and not servers else External(())
        files = (str(Path(file).expanduser().resolve()) if file else "" for file in (ca, certificate, key))
        ca, certificate, key = files
        asked = replace(there, ca=ca or there.ca, certificate=certificate or there.certificate, key=key or there.key)
        if servers:
            asked = replace(asked, endpoints=tuple(filter(None, (url.strip() for url in servers.split(",")))))
        asked = replace(asked, prefix=prefix or asked.prefix)
        return replace(self, store="external", external=endpoints.checked(asked))

    def with_objects(self, more: Sequence[dict[str, Any]]) -> Scenario:
        """Return the same with more objects to apply after its own."""
        return replace(self, objects=(*self.objects, *more))


def folders() -> list[Path]:
    """Return where scenarios are looked for by name: beside the package (a checkout), or inside it (a wheel)."""
    package = Path(__file__).resolve().parent.parent
    return [folder for folder in (package.parent / "scenarios", package / "scenarios") if folder.is_dir()]


def names() -> list[str]:
    """Return the names of the scenarios that come with netlab."""
    return sorted({file.parent.name for folder in folders() for file in folder.glob("*/scenario.yaml")})


def find(text: str) -> Path:
    """Return the scenario file that `text` means: a file, a folder with a scenario.yaml, or a name.

    Raises:
        NotFound: there is none.
    """
    path = Path(text)
    if path.is_file():
        return path
    if (path / "scenario.yaml").is_file() and ("/" in text or text in (".", "..")):
        return path / "scenario.yaml"
    for folder in folders():
        if re.fullmatch(r"[a-z0-9-]+", text) and (folder / text / "scenario.yaml").is_file():
            return folder / text / "scenario.yaml"
    if (path / "scenario.yaml").is_file():
        return path / "scenario.yaml"
    lessons = "".join(f"\n  {name:<34}{title(name)}" for name in names())
    raise NotFound(f'no scenario "{text}"', hint=f"name a scenario.yaml file, or one of these:{lessons}")


def title(name: str) -> str:
    """Return the first line of help on a scenario that comes with netlab; its manifests are not read."""
    path = find(name)
    found = source.parse(read(path), str(path)).value
    return str(found.get("title", "")) if isinstance(found, dict) else ""


def load(text: str) -> Scenario:
    """Find and read a scenario.

    Raises:
        NotFound: there is none.
        ManifestError: its file, or a manifest of it, says something wrong.
    """
    path = find(text)
    return parse(read(path), path)


def read(path: Path) -> str:
    """Return a file's text.

    Raises:
        NotFound: it can't be read.
        ManifestError: it is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ManifestError("not a text file", file=str(path)) from None
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}") from None


def parse(text: str, path: Path) -> Scenario:
    """Return the scenario in a file's text; its manifests are read from beside the file.

    Raises:
        ManifestError: something is wrong, and where.
    """
    document = source.parse(text, str(path))
    fields = document.fields(FIELDS)
    given: dict[str, Any] = {}
    if "title" in fields:
        given["title"] = fields["title"].text()
    if "nodes" in fields:
        given["nodes"], given["wishes"] = networking.nodes(fields["nodes"])
    if "network" in fields:
        network = fields["network"].fields(("backend",))
        if "backend" in network:
            given["backend"] = network["backend"].choice("host-gw", "vxlan")
    if "networking" in fields or "kubeProxy" in fields:
        given["networking"] = networking.parse(fields.get("networking"), fields.get("kubeProxy"))
    if "store" in fields:
        given["store"], given["store_members"], given["external"] = _store(fields["store"], path.parent)
    if "manifests" in fields:
        given["objects"] = tuple(obj for item in fields["manifests"].items() for obj in _manifest(item, path.parent))
    if "next" in fields:
        given["next"] = tuple(item.text() for item in fields["next"].items())
    if "checks" in fields:
        given["checks"] = tuple(check.parse(item) for item in fields["checks"].items())
    name = path.resolve().parent.name if path.name == "scenario.yaml" else path.stem
    return Scenario(name=name, file=str(path), **given)


def _store(field: Field, folder: Path) -> tuple[Store, int, External | None]:
    """Read `store`: a kind, or a mapping of kind and members, or of what there is to say of an external etcd."""
    parts = field.fields(("kind", "members", *EXTERNAL), required=("kind",)) if isinstance(field.value, dict) else {
        "kind": field}
    kind = cast(Store, parts["kind"].choice(*STORES))
    members = parts["members"].integer(1, 5) if "members" in parts else 1
    try:
        plan.check_members(kind, members)
    except UsageError as error:
        raise parts.get("members", field).refused(str(error)) from None
    if kind == "external":
        return kind, members, _external(field, parts, folder)
    for name in EXTERNAL:
        if name in parts:
            raise parts[name].refused(f"only the store external has {name}")
    return kind, members, None


def _external(field: Field, parts: dict[str, Field], folder: Path) -> External:
    """Read an external etcd; its files are looked for from beside the scenario's."""
    files = {name: str((folder / Path(parts[name].text(words="a file")).expanduser()).resolve())
             for name in ("caFile", "certFile", "keyFile") if name in parts}
    urls = tuple(item.text(words="a URL") for item in parts["endpoints"].items()) if "endpoints" in parts else ()
    found = External(urls, files.get("caFile", ""), files.get("certFile", ""), files.get("keyFile", ""),
                     parts["prefix"].text(words="a path such as /registry") if "prefix" in parts else PREFIX)
    wrong, words = endpoints.fault(found)
    if wrong:
        raise parts.get(wrong, field).refused(words if wrong in parts else f"{wrong}: {words}")
    return found


def objects(path: Path) -> list[dict[str, Any]]:
    """Return the Kubernetes objects of a YAML or JSON file, of all files of a folder, or of standard input ("-").

    Raises:
        NotFound: nothing is there.
        ManifestError: it is no list of Kubernetes objects.
    """
    if str(path) == "-":
        import sys

        return _objects(sys.stdin.read(), "standard input")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml", ".json"))
        if not files:
            raise NotFound(f"there are no manifests in {path}")
        return [obj for file in files for obj in _objects(read(file), str(file))]
    return _objects(read(path), str(path))


def _objects(text: str, file: str) -> list[dict[str, Any]]:
    try:
        found = documents.load(text, file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ManifestError(f"no YAML: {error.problem or error.context}", file=file,
                            line=mark.line + 1 if mark else 0) from None
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        raise ManifestError(f"no Kubernetes objects: {error}", file=file) from None
    for obj in found:
        if not isinstance(obj, dict) or not isinstance(obj.get("kind"), str) or not isinstance(
                obj.get("apiVersion"), str):
            raise ManifestError("a document has no apiVersion and kind: not a Kubernetes object", file=file,
                                line=_line(obj))
        metadata = obj.get("metadata")
        if not isinstance(metadata, dict) or not (metadata.get("name") or metadata.get("generateName")):
            raise ManifestError(f"a {obj['kind']} has no name", file=file, line=_line(obj, "metadata"),
                                field="metadata.name")
    return found


def _line(obj: Any, field: str = "") -> int:
    return obj.line_of(field) if isinstance(obj, documents.Document) else 0


def _manifest(item: Field, folder: Path) -> Sequence[dict[str, Any]]:
    path = folder / item.text(words="the name of a manifest file")
    if not path.exists():
        raise item.wrong(f"a file or folder beside {Path(item.file).name}")
    return objects(path)


def _lab_name(text: str) -> str:
    return re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")[:24].strip("-") or "lab"
