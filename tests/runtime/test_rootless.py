"""The same tests of nodes and containers again, as an ordinary user in a user namespace with uid 0 alone."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AS_USER = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
IN_NAMESPACES = [*AS_USER, "unshare", "--user", "--mount", "--net", "--map-root-user"]


@pytest.mark.root
@pytest.mark.timeout(200)
@pytest.mark.skipif(os.geteuid() != 0 or os.environ.get("NETLAB_TEST_ROOTLESS") == "1", reason="is that run, or no root")
def test_everything_again_without_root():
    probe = subprocess.run([*IN_NAMESPACES, sys.executable, "-c", "import tests.runtime.conftest"], cwd=ROOT,
                           capture_output=True, text=True, check=False)
    if probe.returncode:
        pytest.skip(f"an ordinary user can't: {probe.stderr.splitlines()[-1]}")
    home = tempfile.mkdtemp(prefix="netlab-rootless-")
    os.chmod(home, 0o777)
    try:
        done = subprocess.run(
            [*IN_NAMESPACES, sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={home}/tests",
             "tests/runtime/test_containers.py", "tests/runtime/test_node.py", "tests/runtime/test_commands.py"],
            cwd=ROOT, env={**os.environ, "HOME": home, "NETLAB_TEST_ROOTLESS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
    finally:
        shutil.rmtree(home, ignore_errors=True)
