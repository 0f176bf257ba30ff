"""What the import of a program costs: asked of fresh interpreters, which have imported nothing yet."""

from __future__ import annotations

import gc
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from netlab import programs
from netlab.imports import uncollected, without_system_roots
from netlab.lab.pki import Authority


def test_a_body_without_system_roots_trusts_nobody_and_leaves_the_settings_as_they_were(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_DIR", "/somewhere")
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with without_system_roots():
        assert ssl.create_default_context().get_ca_certs() == []
    assert (os.environ["SSL_CERT_DIR"], "SSL_CERT_FILE" in os.environ) == ("/somewhere", False)


@pytest.mark.parametrize("start", [*(f"programs.load({name!r})" for name in programs.PROGRAMS), "programs.warm()"])
def test_no_program_reads_the_systems_certificates_when_it_is_imported(start: str, tmp_path: Path) -> None:
    (tmp_path / "roots").write_bytes(Authority("root", now=time.time()).pair.certificate)
    # ssl keeps no list of its contexts, so each that is made is noted
    code = ("import ssl; made = []; new = ssl.SSLContext.__new__\n"
            "def noted(*args, **options): made.append(new(*args, **options)); return made[-1]\n"
            "ssl.SSLContext.__new__ = noted\n"
            f"from netlab import programs; {start}\n"
            "print([it.cert_store_stats()['x509'] for it in made if it.cert_store_stats()['x509']],"
            " len(ssl.create_default_context().get_ca_certs()))")
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "SSL_CERT_FILE": str(tmp_path / "roots")})
    assert done.stdout.split() == ["[]", "1"]


def test_while_modules_are_imported_no_garbage_is_looked_for_and_afterwards_it_is() -> None:
    looked: list[str] = []
    gc.callbacks.append(lambda phase, _: looked.append(phase))
    try:
        with uncollected():
            kept = [[] for _ in range(100_000)]
            assert not looked
        kept += [[] for _ in range(100_000)]
        assert looked
        assert gc.isenabled()
    finally:
        gc.callbacks.pop()
        gc.unfreeze()


def test_who_looks_for_no_garbage_does_not_begin_to_after_an_import() -> None:
    gc.disable()
    try:
        with uncollected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()


def test_an_api_server_imports_nothing_that_only_few_of_them_need() -> None:
    code = ("import sys, netlab.apiserver.main\n"
            "print([name for name in ('yaml', 'zoneinfo', 'sysconfig', 'ctypes', 'grpclib', 're2') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
