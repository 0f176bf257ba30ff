from __future__ import annotations

import base64

import orjson
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from netlab.controllers.legacy_tokens import Signer
from netlab.controllers.main import CONTROLLERS, chosen, main
from netlab.errors import UsageError


def test_which_controllers_run():
    everything = [row.name for row in CONTROLLERS]
    assert [row.name for row in chosen(["*"])] == everything
    assert [row.name for row in chosen(["*", "-deployment-controller"])] == [
        name for name in everything if name != "deployment-controller"]
    assert [row.name for row in chosen(["replicaset", "job-controller"])] == ["replicaset-controller"]
    assert len(chosen(["*", "bootstrapsigner", "tokencleaner"])) == len(everything), "kubeadm's flag"
    with pytest.raises(UsageError, match="not in the list"):
        chosen(["deploymnet"])


@pytest.mark.parametrize("argv", [["--nonsense"], ["--controllers=nonsense"], ["--kubeconfig=/nonexistent"],
                                  ["--root-ca-file=/nonexistent"], []])
def test_a_usage_error_is_one_line(argv, capsys, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert main(argv) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_help(capsys):
    assert main(["--help"]) == 0
    assert "--cluster-cidr" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_tokens_can_be_checked_with_the_public_key(kind):
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    signer = Signer(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                      serialization.NoEncryption()))
    token = signer.token("ns", "web-token", "web", "u1")
    head, claims, signature = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    assert orjson.loads(head)["alg"] == ("RS256" if kind == "rsa" else "ES256")
    assert orjson.loads(claims)["sub"] == "system:serviceaccount:ns:web"
    text = token.rpartition(".")[0].encode()
    if kind == "rsa":
        key.public_key().verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
    else:
        pair = encode_dss_signature(int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big"))
        key.public_key().verify(pair, text, ec.ECDSA(hashes.SHA256()))
    with pytest.raises(UsageError):
        Signer(b"no key")
