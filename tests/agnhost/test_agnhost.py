"""The programs of the image as processes in a namespace of their own, asked over its loopback."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from netlab.agnhost import connect, load, main, porter, sockets
from netlab.client.tls import self_signed
from netlab.kernel import link, netns
from netlab.kernel.rtnl import Rtnl

pytestmark = pytest.mark.root

ROOT = Path(__file__).resolve().parents[2]


class Place:
    """A namespace with loopback, and the programs that run in it."""

    def __init__(self) -> None:
        self.fd = netns.new_netns()
        self._children: list[subprocess.Popen[bytes]] = []
        with Rtnl(self.fd) as sock:
            link.set_up(sock, "lo")

    def start(self, *argv: str, port: int = 0, **environ: str) -> subprocess.Popen[bytes]:
        """Start a program, and wait until it listens on a TCP port."""
        child = subprocess.Popen([sys.executable, "-m", "netlab.agnhost.main", *argv], cwd=ROOT, stderr=subprocess.DEVNULL,
                                 env={**os.environ, "PYTHONPATH": str(ROOT), **environ})
        self._children.append(child)
        if port:
            self.until_listening(child, port)
        return child

    def until_listening(self, child: subprocess.Popen[bytes], port: int) -> None:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                assert child.poll() is None, "it ended"
                time.sleep(0.01)

    def run(self, *argv: str, stdin: str = "") -> tuple[int, str]:
        done = subprocess.run([sys.executable, "-m", "netlab.agnhost.main", *argv], cwd=ROOT, capture_output=True, text=True,
                              input=stdin, timeout=30, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
        return done.returncode, done.stdout

    def close(self) -> None:
        for child in self._children:
            child.kill()
            child.wait()
        os.close(self.fd)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    made = Place()
    with netns.inside(made.fd):
        yield made
    made.close()


@pytest.fixture(scope="module")
def netexec(place: Place) -> str:
    place.start("netexec", port=8080)
    return "http://127.0.0.1:8080"


def get(url: str) -> str:
    with urlopen(url, timeout=5) as answer:
        return str(answer.read().decode())


def get_json(url: str) -> Any:
    return json.loads(get(url))


def ask_udp(port: int, text: str, *, address: str = "127.0.0.1", seconds: float = 5) -> str:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.settimeout(seconds)
        one.sendto(text.encode(), (address, port))
        return one.recv(65535).decode()


def test_netexec_tells_who_asks_and_who_answers(netexec: str) -> None:
    assert get(f"{netexec}/clientip").startswith("127.0.0.1:")
    assert get("http://[::1]:8080/clientip").startswith("[::1]:")
    assert get(f"{netexec}/serverport") == "8080"
    assert get(f"{netexec}/hostname") == get(f"{netexec}/hostName") == socket.gethostname()
    assert get(f"{netexec}/").startswith("NOW: 2")
    assert get(f"{netexec}/header?key=User-Agent").startswith("Python-urllib")
    assert get(f"{netexec}/healthz") == get(f"{netexec}/readyz") == ""


def test_netexec_echoes_redirects_and_runs(netexec: str) -> None:
    assert get(f"{netexec}/echo?msg=a%20b") == "a b"
    with pytest.raises(OSError, match="418"):
        get(f"{netexec}/echo?msg=x&code=418")
    assert get(f"{netexec}/redirect?location=/hostname&code=301") == socket.gethostname()
    assert get(f"{netexec}/shell?cmd=echo%20hi%3Bfalse") == '{"error":"exit status 1","output":"hi\\n"}'


def test_netexec_keeps_uploads(netexec: str) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nhello\r\n--x--\r\n'
    from urllib.request import Request
    request = Request(f"{netexec}/upload", body, {"Content-Type": "multipart/form-data; boundary=x"})
    file = Path(get_json(request)["output"])  # type: ignore[arg-type]
    assert file.read_bytes() == b"hello"
    file.unlink()
    assert "error" in get_json(f"{netexec}/upload")


@pytest.mark.parametrize(("question", "expected"), [("hostname", socket.gethostname()), ("HOSTNAME", socket.gethostname()),
                                                    ("echo a b", "a b"), ("serverport", "8081")])
def test_netexec_over_udp(netexec: str, question: str, expected: str) -> None:
    assert ask_udp(8081, question) == expected
    assert ask_udp(8081, "clientip", address="::1").startswith("[::1]:")


def test_netexec_is_silent_on_unknown_datagrams(netexec: str) -> None:
    with pytest.raises(TimeoutError):
        ask_udp(8081, "nonsense", seconds=0.1)


@pytest.mark.parametrize(("query", "responses", "errors"), [
    ("port=8080&protocol=http&request=echo?msg=hi&tries=3", ["hi"] * 3, 0), ("port=8081&protocol=udp&request=echo%20hi", ["hi"], 0),
    ("port=1&protocol=http&request=x", [], 1),
])
def test_netexec_dials_others(netexec: str, query: str, responses: list[str], errors: int) -> None:
    answer = get_json(f"{netexec}/dial?host=127.0.0.1&{query}")
    assert answer["responses"] == responses
    assert len(answer.get("errors", [])) == errors
    assert answer.get("errors", ["connection refused"]) == ["connection refused"]


def test_netexec_ends_when_told(place: Place) -> None:
    child = place.start("netexec", "--http-port=9001", "--udp-port=-1", port=9001)
    get("http://127.0.0.1:9001/exit?code=7")
    assert child.wait(10) == 7
    child = place.start("netexec", "--http-port=9001", "--udp-port=-1", port=9001)
    get("http://127.0.0.1:9001/shutdown")
    assert child.wait(10) == 0
    child = place.start("netexec", "--http-port=9001", "--udp-port=-1", "--http-override=/hostname", port=9001)
    assert get("http://127.0.0.1:9001/any/path") == socket.gethostname()
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 0


def test_serve_hostname_three_ways(place: Place) -> None:
    place.start("serve-hostname", port=9376)
    assert get("http://127.0.0.1:9376/") == socket.gethostname()
    place.start("serve-hostname", "--tcp", "--udp", "--port=9377", port=9377)
    with socket.create_connection(("127.0.0.1", 9377), 5) as one:
        assert one.recv(100).decode().strip() == socket.gethostname()
    assert ask_udp(9377, "?") == socket.gethostname()


def test_porter_and_reset(place: Place) -> None:
    place.start("porter", port=9102, SERVE_PORT_9101="one", SERVE_PORT_9102="two")
    assert [get(f"http://127.0.0.1:{port}/") for port in (9101, 9102)] == ["one", "two"]
    assert porter.wanted({"SERVE_PORT_80": "x", "SERVE_PORT_": "y", "HOME": "/", "SERVE_TLS_PORT_81": "z", "SERVE_SCTP_PORT_82": ""}) \
        == {("", 80): "x", ("TLS", 81): "z", ("SCTP", 82): ""}
    place.start("tcp-reset", "--port=9103", port=9103)
    with socket.create_connection(("127.0.0.1", 9103), 5) as one:
        one.sendall(b"hello")
        with pytest.raises(ConnectionResetError):
            one.recv(10)


def test_porter_speaks_tls_with_its_own_certificate_or_a_given_one(place: Place, tmp_path: Path) -> None:
    def shown(port: int) -> tuple[bytes, bytes]:
        with socket.create_connection(("127.0.0.1", port), 5) as raw:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(raw) as one:
                one.sendall(b"POST / HTTP/1.0\r\n\r\n")
                certificate, answer = one.getpeercert(binary_form=True), b""
                while part := one.recv(65536):
                    answer += part
        return certificate, answer

    place.start("porter", port=9111, SERVE_TLS_PORT_9111="own")
    der, answer = shown(9111)
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]
    assert answer.endswith(b"\r\n\r\nown")
    pem = self_signed("192.0.2.7")
    (tmp_path / "both").write_bytes(pem)
    place.start("porter", "--json-response", port=9112, SERVE_TLS_PORT_9112="<given>", CERT_FILE=str(tmp_path / "both"), KEY_FILE=str(tmp_path / "both"))
    der, answer = shown(9112)
    assert der == x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)
    assert answer.endswith(b'\r\n\r\n{"Method":"POST","Body":"\\u003cgiven\\u003e"}')
    broken = place.start("porter", SERVE_TLS_PORT_9113="x", CERT_FILE="/nowhere", KEY_FILE="/nowhere")
    assert broken.wait(20) == 1


def test_porter_speaks_sctp_where_the_kernel_does(place: Place) -> None:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        assert place.start("porter", SERVE_SCTP_PORT_9121="hello").wait(20) == 1
        return
    place.start("porter", port=9122, SERVE_SCTP_PORT_9121="hello", SERVE_PORT_9122="up")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as one:
        one.connect(("127.0.0.1", 9121))
        assert one.recv(100) == b"hello"


def test_the_echo_server_tells_what_it_saw(place: Place) -> None:
    place.start("echo-server", "--http-port=9201", "--udp-port=9202", "--tcp-port=9203", port=9201, POD_NAME="web-1",
                NODE_NAME="worker1")
    told = get_json("http://127.0.0.1:9201/a?b=c")
    assert (told["protocol"], told["method"], told["path"], told["pod"], told["node"]) == ("http", "GET", "/a?b=c", "web-1", "worker1")
    assert told["client"].startswith("127.0.0.1:")
    assert told["server"] == "127.0.0.1:9201"
    assert told["headers"]["Host"] == "127.0.0.1:9201"
    told = json.loads(ask_udp(9202, "hello"))
    assert (told["protocol"], told["received"], told.get("namespace", "")) == ("udp", "hello", "")
    with socket.create_connection(("127.0.0.1", 9203), 5) as one:
        for text in ("one", "two"):
            one.sendall(f"{text}\n".encode())
            assert json.loads(one.recv(65535))["received"] == text


def test_guestbook_hands_values_to_its_replicas(place: Place) -> None:
    place.start("guestbook", "--http-port=9301", "--backend-port=9301", port=9301)
    assert "Guestbook" in get("http://127.0.0.1:9301/")
    assert get_json("http://127.0.0.1:9301/set?key=k&value=v") == {"data": "Updated"}
    assert get("http://127.0.0.1:9301/get?key=k") == '{"data":"v"}'
    assert get("http://127.0.0.1:9301/get?key=none") == '{"data":""}'
    assert get_json("http://127.0.0.1:9301/register?host=nobody.invalid") == {"data": "nobody.invalid"}
    assert get_json("http://127.0.0.1:9301/set?key=k&value=w") == {"data": "Updated"}


def test_connect_says_in_one_word_why_not(place: Place, netexec: str) -> None:
    assert place.run("connect", "127.0.0.1:8080", "--timeout=5s") == (0, "")
    assert place.run("connect", "127.0.0.1:1", "--timeout=5s") == (1, "REFUSED\n")
    assert place.run("connect", "nobody.invalid:80", "--timeout=5s") == (1, "DNS\n")
    assert place.run("connect", "192.0.2.1:80", "--timeout=5s") == (1, "OTHER\n")  # no route
    assert place.run("connect", "127.0.0.1:8081", "--protocol=udp", "--udp-data=hostname", "--timeout=5s") == (0, "")
    assert place.run("connect", "nonsense") == (1, "OTHER\n")


@pytest.mark.filterwarnings("ignore")
def test_connect_to_silence_times_out(place: Place) -> None:
    with socket.socket() as quiet:
        quiet.bind(("127.0.0.1", 0))
        quiet.listen(0)
        address = quiet.getsockname()
        full = [socket.socket() for _ in range(4)]  # fills the queue of connections nobody takes
        for one in full:
            one.setblocking(False)
            one.connect_ex(address)
        import asyncio
        said = asyncio.run(connect.attempt("127.0.0.1", address[1], "tcp", 0.2, b""))
        for one in full:
            one.close()
    assert said == "TIMEOUT"


@pytest.mark.parametrize("keepalive", ["true", "false"])
def test_load_counts_what_it_did(place: Place, netexec: str, keepalive: str) -> None:
    code, out = place.run("load", f"{netexec}/hostname", "--connections=3", "--requests=30", f"--keepalive={keepalive}")
    told = json.loads(out)
    assert (code, told["requests"], told["errors"], told["answers"]) == (0, 30, {}, {socket.gethostname(): 30})
    assert 0 < told["latencyMs"]["p50"] <= told["latencyMs"]["p99"] <= told["latencyMs"]["max"]


def test_load_against_nobody_fails(place: Place) -> None:
    code, out = place.run("load", "http://127.0.0.1:1/", "--requests=2")
    assert (code, json.loads(out)["errors"]) == (1, {"connection refused": 2})
    assert load.summary(load.Tally(), 0.0)["perSecond"] == 0.0


def test_netexec_tells_what_it_was_asked(place: Place, tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        child = subprocess.Popen([sys.executable, "-m", "netlab.agnhost.main", "netexec", "--http-port=9011", "--udp-port=-1"],
                                 cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        place.until_listening(child, 9011)
        get("http://127.0.0.1:9011/echo?msg=poststart")
    finally:
        child.kill()
        child.wait()
    assert "GET /echo?msg=poststart" in (tmp_path / "log").read_text()


def test_files_over_http(place: Place, tmp_path: Path) -> None:
    place.start("test-webserver", "--port=9012", port=9012)
    (tmp_path / "a file").write_text("hello")
    where = f"http://127.0.0.1:9012{tmp_path}"
    assert get(f"{where}/a%20file") == "hello"
    assert '<a href="a file">' in get(where)
    for wrong in (f"{where}/absent", "http://127.0.0.1:9012/../../proc/absent"):
        with pytest.raises(OSError, match="404"):
            get(wrong)


def test_netcat(place: Place, netexec: str) -> None:
    assert place.run("nc", "-vz", "-w", "2", "127.0.0.1", "8080") == (0, "")
    assert place.run("nc", "-z", "-w2", "127.0.0.1", "1")[0] == 1
    assert place.run("nc", "127.0.0.1")[0] == 1
    assert place.run("nc", "-u", "-w", "1", "127.0.0.1", "8081", stdin="echo to and fro") == (0, "to and fro")
    code, said = place.run("nc", "127.0.0.1", "8080", stdin="GET /hostname HTTP/1.0\r\n\r\n")
    assert (code, said.splitlines()[-1]) == (0, socket.gethostname())


def test_mounttest_tells_of_a_volume(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "new"
    code, said = place.run("mounttest", "--fs_type=/dev/shm", f"--new_file_0660={file}", f"--file_mode={tmp_path}", f"--file_perm={file}",
                           f"--file_owner={file}")
    assert (code, said.splitlines()) == (0, [
        'mount type of "/dev/shm": tmpfs', f'content of file "{file}": mount-tester new file', "",
        f'mode of file "{tmp_path}": drwx------', f'perms of file "{file}": -rw-rw----', f'owner UID of "{file}": 0', f'owner GID of "{file}": 0'])
    assert place.run("mounttest", f"--file_content_in_loop={file}")[0] == 0
    code, said = place.run("mounttest", "--file_content=/absent")
    assert (code, said) == (1, 'error: file_content "/absent": No such file or directory\n')
    assert place.run("mounttest")[0] == 1


def test_lines(place: Place) -> None:
    code, said = place.run("logs-generator", "--log-lines-total", "5", "--run-duration", "50ms")
    assert code == 0
    assert [line.split()[1] for line in said.splitlines()] == ["0", "1", "2", "3", "4"]
    assert place.run("logs-generator", "-t", "2", "-d", "1ms")[1].count("\n") == 2
    assert place.run("logs-generator")[0] == 1
    assert place.run("entrypoint-tester", "some", "words")[1].endswith("entrypoint-tester some words]\n")


def test_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from netlab.agnhost import files
    file = tmp_path / "resolv.conf"
    file.write_text("search default.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n")
    monkeypatch.setattr(files, "RESOLV_CONF", file)
    monkeypatch.setattr(files, "HOSTS", file)
    assert [main.main([name]) for name in ("dns-suffix", "dns-server-list", "etc-hosts")] == [0, 0, 0]
    assert capsys.readouterr().out == "default.svc.cluster.local,svc.cluster.local\n10.96.0.10\n" + file.read_text()


def test_words_of_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    assert (main.main([]), main.main(["--version"]), main.main(["netexec", "--help"])) == (0, 0, 0)
    assert "netexec" in capsys.readouterr().out
    assert (main.main(["nope"]), main.main(["netexec", "--nope"]), main.main(["connect"])) == (1, 1, 1)
    assert capsys.readouterr().err.count("\n") == 3


def test_pause_ends_on_sigterm(place: Place) -> None:
    child = place.start("pause")
    waiting = {"x86_64": "128", "aarch64": "137"}[os.uname().machine]  # rt_sigtimedwait
    while Path(f"/proc/{child.pid}/syscall").read_text().split()[0] != waiting:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 0


@pytest.mark.parametrize(("text", "expected"), [("a:80", ("a", 80)), ("[fd00::1]:80", ("fd00::1", 80))])
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    assert sockets.split(text) == expected
    with pytest.raises(ValueError, match="missing port"):
        sockets.split("a")
