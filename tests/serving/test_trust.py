"""Which chains are good, beside what Go's x509 says of the same ones."""

from __future__ import annotations

import datetime
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from netlab.serving import trust
from netlab.serving.trust import Authorities, Untrusted, identifier

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
CA = x509.BasicConstraints(ca=True, path_length=None)
SIGNS = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
CLIENT = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
SERVER = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])


class Issuer:
    """A name with a key, and a certificate by another issuer or by itself."""

    def __init__(self, name: str, by: Issuer | None = None, *extensions: Any, key: Any = None, **options: Any) -> None:
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = key or ec.generate_private_key(ec.SECP256R1())
        self.certificate = certificate(self, by or self, *extensions, **options)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def certificate(subject: Issuer, by: Issuer, *extensions: Any, days: tuple[int, int] = (-10, 10),
                critical: bool = False) -> x509.Certificate:
    builder = (x509.CertificateBuilder().subject_name(subject.name).issuer_name(by.name).serial_number(7)
               .public_key(subject.key.public_key())
               .not_valid_before(NOW + days[0] * DAY).not_valid_after(NOW + days[1] * DAY))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=critical or isinstance(extension, x509.BasicConstraints))
    return builder.sign(by.key, hashes.SHA256())


ROOT = Issuer("root", None, CA)
NOW_SECONDS = NOW.timestamp()


def judged(authorities: bytes, *chain: Issuer, now: float = NOW_SECONDS) -> str:
    """Return why a chain is not good, "" if it is."""
    try:
        Authorities(authorities).verify(tuple(one.certificate for one in chain), now)
    except Untrusted as error:
        return str(error)
    return ""


BETWEEN = Issuer("between", ROOT, CA, SIGNS)
UNKNOWN = "x509: certificate signed by unknown authority"
USAGE = "x509: certificate specifies an incompatible key usage"


@pytest.mark.parametrize(("chain", "said"), [
    pytest.param([Issuer("a", ROOT, CLIENT)], "", id="direct"),
    pytest.param([Issuer("a", ROOT)], "", id="no usage is any usage"),
    pytest.param([Issuer("a", BETWEEN, CLIENT), BETWEEN], "", id="through one in between"),
    pytest.param([Issuer("a", BETWEEN, CLIENT)], UNKNOWN, id="the one in between is missing"),
    pytest.param([Issuer("a", Issuer("root", None, CA), CLIENT)], UNKNOWN, id="the same name, another key"),
    pytest.param([Issuer("a", None, CLIENT)], UNKNOWN, id="signed by itself"),
    pytest.param([Issuer("a", ROOT, SERVER)], USAGE, id="for servers"),
    pytest.param([Issuer("a", (s := Issuer("s", ROOT, CA, SERVER)), CLIENT), s], USAGE,
                 id="an authority for servers' certificates alone"),
    pytest.param([Issuer("a", (n := Issuer("n", ROOT)), CLIENT), n], UNKNOWN, id="signed by who is no authority"),
    pytest.param([Issuer("a", (k := Issuer("k", ROOT, SIGNS)), CLIENT), k], UNKNOWN,
                 id="signed by who is an authority by his key's usage alone"),
    pytest.param([Issuer("a", (p := Issuer("p", (q := Issuer("q", ROOT, x509.BasicConstraints(True, 0))), CA)), CLIENT),
                  p, q], "x509: too many intermediates for path length constraint", id="longer than an authority allows"),
    pytest.param([Issuer("a", ROOT, CLIENT, days=(-10, -1))],
                 "x509: certificate has expired or is not yet valid: current time 2026-06-01T00:00:00Z is after "
                 "2026-05-31T00:00:00Z", id="expired"),
    pytest.param([Issuer("a", ROOT, CLIENT, days=(1, 2))],
                 "x509: certificate has expired or is not yet valid: current time 2026-06-01T00:00:00Z is before "
                 "2026-06-02T00:00:00Z", id="not yet valid"),
    pytest.param([Issuer("a", (o := Issuer("o", ROOT, CA, days=(-9, -3))), CLIENT), o],
                 "x509: certificate has expired or is not yet valid: current time 2026-06-01T00:00:00Z is after "
                 "2026-05-29T00:00:00Z", id="one in between has expired"),
    pytest.param([Issuer("a", ROOT, x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"),
                         critical=True)], "x509: unhandled critical extension", id="critical and not known"),
])
def test_what_is_good(chain: list[Issuer], said: str) -> None:
    found = judged(ROOT.pem, *chain)
    assert found == said or (said == UNKNOWN and found.startswith(f"{UNKNOWN} (possibly because of "))


def test_what_the_file_names_is_trusted_though_it_is_no_root() -> None:
    assert judged(BETWEEN.pem, Issuer("a", BETWEEN, CLIENT)) == ""
    assert judged(BETWEEN.pem, Issuer("a", ROOT, CLIENT)) == UNKNOWN


def test_a_renewed_authority_counts_beside_its_expired_certificate() -> None:
    old, new = (Issuer("ca", None, CA, key=ROOT.key, days=days) for days in ((-20, -5), (-5, 20)))
    assert judged(old.pem + new.pem, Issuer("a", new, CLIENT)) == ""
    assert judged(new.pem + old.pem, Issuer("a", new, CLIENT)) == ""


def test_a_verdict_ends_with_the_first_certificate_of_its_chain() -> None:
    short = Issuer("short", ROOT, CA, days=(-10, 1))
    authorities = Authorities(ROOT.pem)
    chain = (Issuer("a", short, CLIENT).certificate, short.certificate)
    for _ in range(2):
        authorities.verify(chain, NOW_SECONDS)
    authorities.verify(chain[:1], NOW_SECONDS)  # what was in between is remembered …
    for late in (chain, chain[:1]):
        with pytest.raises(Untrusted, match="has expired"):  # … and judged again
            authorities.verify(late, (NOW + 2 * DAY).timestamp())
    authorities.verify(chain, NOW_SECONDS)


def test_a_chain_that_leads_nowhere_is_looked_at_once_and_its_leaf_again_with_another_chain(
        monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []

    class Noted(trust.crypto.X509StoreContext):
        def get_verified_chain(self) -> list[trust.crypto.X509]:
            looked.append(self)
            return super().get_verified_chain()

    monkeypatch.setattr(trust.crypto, "X509StoreContext", Noted)
    authorities = Authorities(ROOT.pem)
    leaf, alien = Issuer("a", BETWEEN, CLIENT), Issuer("root", None, CA)
    for _ in range(3):
        for chain, said in (((leaf,), UNKNOWN), ((leaf, alien), UNKNOWN)):
            with pytest.raises(Untrusted, match=said):
                authorities.verify(tuple(one.certificate for one in chain), NOW_SECONDS)
    assert len(looked) == 2
    authorities.verify((leaf.certificate, BETWEEN.certificate), NOW_SECONDS)
    with pytest.raises(Untrusted, match=r"has expired .* is after"):
        authorities.verify((leaf.certificate, alien.certificate), NOW_SECONDS + 11 * 86400)


def test_what_is_bad_for_its_time_alone_is_good_when_that_has_come() -> None:
    authorities = Authorities(ROOT.pem)
    late = Issuer("late", ROOT, CA, SIGNS, days=(2, 9))
    leaf = Issuer("a", late, CLIENT)
    for _ in range(2):
        with pytest.raises(Untrusted, match="has expired or is not yet valid"):
            authorities.verify((leaf.certificate, late.certificate), NOW_SECONDS)
    authorities.verify((leaf.certificate, late.certificate), NOW_SECONDS + 3 * 86400)


def test_many_clients_are_no_burden_for_ever() -> None:
    authorities = Authorities(ROOT.pem)
    for number in range(1030):
        authorities.verify((Issuer(f"a{number}", ROOT, CLIENT, key=ROOT.key).certificate,), NOW_SECONDS)
    assert len(authorities._good) <= 1024


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
@pytest.mark.parametrize(("digest", "said"), [("-sha256", ""), ("-sha1", "insecure algorithm SHA1")])
def test_version_1_is_good_and_a_broken_hash_is_not(tmp_path: Path, digest: str, said: str) -> None:
    """Many instructions make certificates so: `openssl x509 -req` without extensions."""
    (tmp_path / "ca.crt").write_bytes(ROOT.pem)
    (tmp_path / "ca.key").write_bytes(ROOT.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))

    def openssl(*argv: str) -> None:
        subprocess.run(["openssl", *argv], cwd=tmp_path, check=True, capture_output=True)

    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "a.key", "-subj", "/CN=a", "-out", "a.csr")
    openssl("x509", "-req", "-in", "a.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-set_serial", "9", "-days", "2",
            digest, "-out", "a.crt")
    made = x509.load_pem_x509_certificate((tmp_path / "a.crt").read_bytes())
    root = Issuer("root", None, CA, key=ROOT.key, days=(-10, 36500))
    try:
        Authorities(root.pem).verify((made,), made.not_valid_before_utc.timestamp() + 60)
        found = ""
    except Untrusted as error:
        found = str(error)
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize("pem", [b"", b"nonsense", ROOT.pem[:-100]])
def test_a_file_without_certificates_is_refused(pem: bytes) -> None:
    with pytest.raises(ValueError, match=r"PEM|certificate"):
        Authorities(pem)


def test_a_certificate_is_told_as_upstream_tells_it() -> None:
    leaf = Issuer("a", ROOT, x509.SubjectKeyIdentifier(b"\x0a\xbc"),
                  x509.AuthorityKeyIdentifier(b"\x01\x02", None, None)).certificate
    assert identifier(leaf) == "SN=7, SKID=0A:BC, AKID=01:02"
    assert identifier(ROOT.certificate) == "SN=7, SKID=, AKID="
