"""The files that netd writes for the node's container runtime: the conflist and the plugins."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netlab.cni import main as plugins
from netlab.errors import KernelError

log = logging.getLogger(__name__)

NAME = "10-netlab.conflist"


class Configuration:
    """Keeps the conflist as wanted for as long as it is netd's own: what somebody else has edited stays theirs."""

    def __init__(self, conf_dir: Path, bin_dir: Path, state_dir: Path) -> None:
        self._file, self._bin_dir = conf_dir / NAME, bin_dir
        self._mark = state_dir / "netd-wrote"
        self._said = ""

    def install_plugins(self) -> None:
        """Write the plugins that are missing.

        Raises:
            KernelError: the directory cannot be written.
        """
        try:
            written = plugins.install(str(self._bin_dir))
        except OSError as error:
            raise KernelError(f"cannot install plugins in {self._bin_dir}: {error.strerror}",
                              errno=error.errno or 0) from None
        if written:
            log.info("installed the CNI plugins %s in %s", ", ".join(written), self._bin_dir)

    def has_plugin(self, name: str) -> bool:
        """Tell whether the node has a plugin."""
        return (self._bin_dir / name).exists()

    def write(self, conflist: Mapping[str, Any]) -> bool:
        """Put the conflist in place, whole; tell whether anything was written.

        Raises:
            KernelError: the directory cannot be written.
        """
        text = json.dumps(conflist, indent=2) + "\n"
        wanted = _digest(text.encode())
        try:
            there = _digest(self._file.read_bytes()) if self._file.exists() else ""
            if there == wanted:
                return False
            if there and there != self._wrote():
                self._say(f"{self._file} was written by somebody else: it stays as it is")
                return False
            self._file.parent.mkdir(parents=True, exist_ok=True)
            new = self._file.with_name(f".{NAME}.new")
            new.write_text(text, encoding="utf-8")
            self._mark.parent.mkdir(parents=True, exist_ok=True)
            self._mark.write_text(wanted, encoding="ascii")
            new.rename(self._file)
        except OSError as error:
            raise KernelError(f"cannot write {self._file}: {error.strerror}", errno=error.errno or 0) from None
        log.info("wrote %s", self._file)
        return True

    def _wrote(self) -> str:
        try:
            return self._mark.read_text(encoding="ascii").strip()
        except OSError:
            return ""

    def _say(self, words: str) -> None:
        if words != self._said:
            log.warning("%s", words)
        self._said = words


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
