from __future__ import annotations

import base64

import pytest
import yaml

from netlab.client import config
from netlab.client.config import TokenSource
from netlab.errors import ManifestError, NotFound, Unsupported, UsageError


def kubeconfig(tmp_path, user, *, cluster=None, name="config"):
    file = tmp_path / name
    file.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443/", **(cluster or {})}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", "namespace": "web"}},
                     {"name": "other", "context": {"cluster": "nowhere", "user": "u"}}]}))
    return str(file)


def test_inline_and_files(tmp_path):
    (tmp_path / "ca.pem").write_bytes(b"CA")
    path = kubeconfig(tmp_path, {"client-certificate-data": base64.b64encode(b"CERT").decode(),
                                 "client-key-data": base64.b64encode(b"KEY").decode()},
                      cluster={"certificate-authority": "ca.pem"})
    found = config.load(path)
    assert (found.server, found.ca, found.certificate, found.key) == ("https://10.0.0.1:6443", b"CA", b"CERT", b"KEY")
    assert found.namespace == "web"
    assert "KEY" not in repr(found)


def test_a_token_file_is_read_again(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("one\n")
    source = TokenSource(config.load(kubeconfig(tmp_path, {"tokenFile": "token"})))
    assert source.token() == "one"
    (tmp_path / "token").write_text("two\n")
    monkeypatch.setattr(config, "_TOKEN_SECONDS", 0.0)
    assert source.token() == "two"
    (tmp_path / "token").unlink()
    assert source.token() == "two", "a token that is being replaced is no reason to stop"


def test_in_cluster(tmp_path, monkeypatch):
    for name, text in (("token", "t"), ("ca.crt", "CA"), ("namespace", "kube-system")):
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    found = config.in_cluster(tmp_path)
    assert (found.server, found.namespace) == ("https://[fd00::1]:443", "kube-system")
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST")
    with pytest.raises(NotFound):
        config.in_cluster(tmp_path)


@pytest.mark.parametrize(("content", "error"), [
    ("just text", ManifestError), ("a: [", ManifestError), ("{}", NotFound)])
def test_what_is_no_kubeconfig(tmp_path, content, error):
    (tmp_path / "bad").write_text(content)
    with pytest.raises(error):
        config.load(str(tmp_path / "bad"))


def test_missing_pieces(tmp_path):
    with pytest.raises(NotFound):
        config.load(str(tmp_path / "absent"))
    with pytest.raises(NotFound, match="nowhere"):
        config.load(kubeconfig(tmp_path, {}), context="other")
    with pytest.raises(Unsupported):
        config.load(kubeconfig(tmp_path, {"exec": {"command": "gke"}}))
    with pytest.raises(ManifestError):
        config.load(kubeconfig(tmp_path, {"client-key-data": "!!"}))


def test_a_certificate_that_is_none(tmp_path):
    found = config.load(kubeconfig(tmp_path, {"client-certificate-data": base64.b64encode(b"no").decode(),
                                              "client-key-data": base64.b64encode(b"no").decode()}))
    with pytest.raises(UsageError):
        found.ssl_context()
