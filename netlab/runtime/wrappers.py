"""Commands that a node's shell has beside the host's: crictl, docker and etcdctl, as far as one looks with them."""

from __future__ import annotations

import sys
from pathlib import Path

from netlab.runtime import rootfs

_MODULES = {"crictl": "netlab.runtime.crictl", "docker": "netlab.runtime.docker",
            "etcdctl": "netlab.store.etcdctl.main"}


def install(directory: Path) -> None:
    """Write the commands into a directory of the node's PATH."""
    parent = str(rootfs.package_parent())
    rootfs.write_all(directory, [(name, (
        f"#!{sys.executable} -I\nimport sys\nsys.path.insert(0, {parent!r})\n"
        f"from {module} import main\nsys.exit(main(sys.argv[1:]))\n"), 0o755) for name, module in _MODULES.items()])
