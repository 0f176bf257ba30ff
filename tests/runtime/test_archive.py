"""Image archives, both layouts: what they unpack to, and what they must not reach."""

import gzip
import hashlib
import io
import json
import shutil
import tarfile

import pytest

from netlab.errors import NotFound, Unsupported, UsageError
from netlab.runtime import image
from netlab.runtime.archive import _architecture
from tests.runtime.conftest import container, output, pod


def layer(*entries) -> bytes:
    """Return a layer: (name, content) is a file, (name, None) a directory, (name, "->", target) a link, (name, "=",
    target) a hard link, (name, content, mode) a file of that mode."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, *rest in entries:
            info = tarfile.TarInfo(name)
            if rest == [None]:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            elif rest[0] in ("->", "="):
                info.type = tarfile.SYMTYPE if rest[0] == "->" else tarfile.LNKTYPE
                info.linkname = rest[1]
                tar.addfile(info)
            else:
                info.mode, info.size = rest[1] if len(rest) > 1 else 0o644, len(rest[0])
                tar.addfile(info, io.BytesIO(rest[0]))
    return buffer.getvalue()


def archive(path, files: dict[str, bytes]):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def docker(path, layers, *, tags=("web:1",), config=None, architecture=None):
    document = json.dumps({"architecture": architecture or _architecture(), "config": config or {}}).encode()
    names = [f"{n}/layer.tar" for n in range(len(layers))]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": list(tags), "Layers": names}]).encode()
    return archive(path, {"manifest.json": manifest, "config.json": document, **dict(zip(names, layers, strict=True))})


def oci(path, layers, *, name="web:1", config=None, index=False):
    blobs = {}

    def blob(content: bytes) -> dict:
        digest = hashlib.sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return {"digest": f"sha256:{digest}", "size": len(content)}

    described = blob(json.dumps({"architecture": _architecture(), "config": config or {}}).encode())
    entry = blob(json.dumps({"config": described, "layers": [blob(la) for la in layers]}).encode())
    if index:
        entry["platform"] = {"architecture": _architecture()}
        other = {**entry, "platform": {"architecture": "s390x"}, "digest": "sha256:" + "0" * 64}
        entry = blob(json.dumps({"manifests": [other, entry]}).encode())
    entry["annotations"] = {"org.opencontainers.image.ref.name": name}
    return archive(path, {"oci-layout": b"{}", "index.json": json.dumps({"manifests": [entry]}).encode(), **blobs})


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


def root_of(store):
    (found,) = image.list_store(store)
    return store / found.directory / "rootfs"


LAYERS = (
    layer(("bin", None), ("bin/tool", b"#!", 0o755), ("etc/old", b"x"), ("etc/kept", b"y"), ("data/a", b"a"),
          ("data/b", b"b"), ("var/run", "->", "/run"), ("run", None)),
    layer(("etc/.wh.old", b""), ("data/.wh..wh..opq", b""), ("data/c", b"c"), ("var/run/pid", b"1"),
          ("bin/same", "=", "bin/tool")),
)


@pytest.mark.parametrize("make", [
    pytest.param(lambda p: docker(p, LAYERS), id="docker"),
    pytest.param(lambda p: oci(p, LAYERS), id="oci"),
    pytest.param(lambda p: oci(p, LAYERS, index=True), id="oci of several machines"),
    pytest.param(lambda p: oci(p, [gzip.compress(la) for la in LAYERS]), id="gzipped layers"),
])
def test_layers_are_merged(tmp_path, store, make):
    assert image.load(make(tmp_path / "image.tar"), store) == ["docker.io/library/web:1"]
    root = root_of(store)
    files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file() and not p.is_symlink()}
    assert files == {"bin/tool": b"#!", "bin/same": b"#!", "etc/kept": b"y", "data/c": b"c", "run/pid": b"1"}
    assert (root / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (root / "bin/tool").samefile(root / "bin/same")


def test_the_config_is_kept(tmp_path, store):
    config = {"Entrypoint": ["/bin/tool"], "Cmd": ["x"], "Env": ["A=1", "B=x=y"], "WorkingDir": "/w", "User": "7",
              "StopSignal": "SIGINT"}
    image.load(docker(tmp_path / "i.tar", LAYERS, config=config, tags=("a/b:2", "c:3")), store)
    (found,) = image.list_store(store)
    assert found.tags == ("docker.io/a/b:2", "docker.io/library/c:3")
    assert (found.entrypoint, found.cmd, found.env) == (("/bin/tool",), ("x",), (("A", "1"), ("B", "x=y")))
    assert (found.working_dir, found.user, found.stop_signal) == ("/w", "7", "SIGINT")


def test_a_name_moves_and_goes(tmp_path, store):
    image.load(docker(tmp_path / "1.tar", LAYERS), store)
    image.load(docker(tmp_path / "2.tar", LAYERS, config={"Cmd": ["new"]}), store)
    (found,) = image.list_store(store)
    assert found.cmd == ("new",)
    image.load(docker(tmp_path / "2.tar", LAYERS, config={"Cmd": ["new"]}, tags=("other:1",)), store)
    (found,) = image.list_store(store)
    assert found.tags == ("docker.io/library/other:1", "docker.io/library/web:1")
    image.remove(store, "web:1")
    image.remove(store, "other:1")
    assert image.list_store(store) == []
    with pytest.raises(NotFound):
        image.remove(store, "web:1")


@pytest.mark.parametrize("evil", [
    pytest.param([("../out", b"x")], id="parent"),
    pytest.param([("a/../../out", b"x")], id="parent inside"),
])
def test_names_that_lead_out_are_refused(tmp_path, store, evil):
    with pytest.raises(UsageError, match="unsafe name"):
        image.load(docker(tmp_path / "i.tar", [layer(*evil)]), store)
    assert image.list_store(store) == []
    assert not list(tmp_path.rglob("out"))
    assert not list(store.iterdir())


def test_links_that_lead_out_end_inside(tmp_path, store):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("safe")
    image.load(docker(tmp_path / "i.tar", [layer(
        ("link", "->", str(outside)), ("link/victim", b"x"), ("/abs/file", b"y"), ("up", "->", "../../../.."),
        ("up/etc/thing", b"z"), ("file", "->", f"{outside}/victim"), ("file", b"own"), ("link/.wh.victim", b""))]), store)
    assert (outside / "victim").read_text() == "safe"
    root = root_of(store)
    assert (root / "abs/file").read_bytes() == b"y"
    assert (root / "etc/thing").read_bytes() == b"z"
    assert (root / "file").read_bytes() == b"own"
    assert not (root / str(outside).lstrip("/") / "victim").exists()


@pytest.mark.parametrize(("content", "message"), [
    pytest.param(b"not a tar at all" * 100, "no image archive that can be read", id="garbage"),
    pytest.param(b"", "no image archive that can be read", id="empty"),
])
def test_what_is_no_archive(tmp_path, store, content, message):
    path = tmp_path / "i.tar"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        image.load(path, store)
    with pytest.raises(UsageError, match=r"neither manifest.json nor index.json"):
        image.load(archive(path, {"readme": b"x"}), store)
    with pytest.raises(UsageError, match="no file"):
        image.load(tmp_path / "absent.tar", store)


@pytest.mark.parametrize("manifest", [b"{}", b"[]x", b'[{"Config": 1}]', b'[{"Config": "c", "Layers": ["nosuch"]}]',
                                      b'[{"Config": "nosuch", "Layers": []}]', b"[null]"])
def test_broken_manifests_are_an_error_not_a_crash(tmp_path, store, manifest):
    path = archive(tmp_path / "i.tar", {"manifest.json": manifest, "c": b"{}"})
    try:
        assert image.load(path, store) == []
    except UsageError:
        assert image.list_store(store) == []


def test_cut_off_archives_leave_nothing(tmp_path, store):
    whole = docker(tmp_path / "i.tar", [layer(("big", b"x" * 100_000))]).read_bytes()
    for size in range(0, len(whole) - 10_240, 9_973):
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        with pytest.raises(UsageError):
            image.load(tmp_path / "cut.tar", store)
        assert not list(store.iterdir())


def test_another_machines_image_is_refused(tmp_path, store):
    with pytest.raises(Unsupported, match="s390x"):
        image.load(docker(tmp_path / "i.tar", LAYERS, architecture="s390x"), store)


@pytest.mark.root
@pytest.mark.skipif(not shutil.which("busybox"), reason="needs busybox-static")
def test_a_loaded_image_runs(node, tmp_path):
    with open(shutil.which("busybox"), "rb") as file:
        binary = file.read()
    image.load(docker(tmp_path / "i.tar", [layer(
        ("bin/busybox", binary, 0o755), ("bin/sh", "->", "busybox"), ("bin/cat", "->", "busybox"),
        ("bin/sleep", "->", "busybox"), ("etc/motd", b"loaded"), ("var/run", "->", "/run"))],
        tags=("mine:1",), config={"Cmd": ["/bin/sleep", "1000"], "Env": ["PATH=/bin"], "WorkingDir": "/etc"}),
        node.spec.image_store)

    async def body(client):
        assert not (await client.image_status("mine:1")).builtin
        box = await client.run_pod_sandbox(pod())
        main = await client.create_container(box.id, container(image="mine:1"))
        await client.start_container(main)
        assert await output(client, main, "cat", "motd") == "loaded"
        await output(client, main, "sh", "-c", "echo changed > /etc/motd")
        again = await client.create_container(box.id, container(image="docker.io/library/mine:1", name="b"))
        await client.start_container(again)
        assert await output(client, again, "cat", "/etc/motd") == "loaded"
        await client.remove_pod_sandbox(box.id)

    node.run(body)
