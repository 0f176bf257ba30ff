"""The real etcdctl against netlab/etcd; where etcd is installed, against it too: both must print the same."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store import servers
from tests.store.servers import Server, running

pytestmark = pytest.mark.skipif(servers.CTL is None, reason="etcdctl is not installed")


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("ours"), real=False) as server:
        yield server


@pytest.fixture(scope="module")
def both(ours: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    if servers.REAL is None:
        yield [ours]
        return
    with running(tmp_path_factory.mktemp("real"), real=True) as real:
        yield [ours, real]


STORY = [
    ("put", "/registry/pods/default/a", "1"), ("put", "/registry/pods/default/b", "2"), ("put", "/registry/x", "3", "--prev-kv"),
    ("put", "/registry/x", "4", "--prev-kv"), ("get", "/registry", "--prefix"), ("get", "/registry", "--prefix", "--keys-only"),
    ("get", "/registry/pods/", "--prefix", "--limit=1"), ("get", "/registry", "--prefix", "--order=DESCEND"),
    ("get", "/registry", "--prefix", "--sort-by=MODIFY", "--order=DESCEND", "--print-value-only"),
    ("get", "/registry", "--prefix", "--sort-by=VALUE"), ("get", "/registry/x", "--rev=4"), ("get", "/registry/pods/default/b", "--from-key"),
    ("get", "--rev=99", "/registry/x"), ("get", ""), ("put", "", "x"), ("put", "/registry/none", "--ignore-value"),
    ("put", "/registry/x", "--ignore-value"), ("put", "/registry/x", "1", "--lease=7"), ("put", "/registry/x", "1", "--ignore-lease"),
    ("lease", "revoke", "7"), ("lease", "timetolive", "7"), ("lease", "keep-alive", "--once", "7"),
    ("del", "/registry/nothing"), ("del", "/registry/pods/default/b", "--prev-kv"), ("del", "/registry/pods", "--prefix"),
    ("get", "/registry", "--prefix", "--count-only", "--write-out=fields"),
    ("compaction", "5"), ("compaction", "4"), ("compaction", "99"), ("get", "/registry/x", "--rev=3"), ("get", "/registry/x", "--rev=5"),
    ("watch", "/registry/x", "--rev=2"), ("alarm", "list"), ("get", "/registry/x", "-w", "json"), ("alarm", "disarm"),
    ("member", "remove", "1"), ("member", "update", "1", "--peer-urls=http://127.0.0.1:1"), ("member", "promote", "1"),
    ("move-leader", "1"), ("auth", "enable"), ("auth", "disable"), ("user", "list"), ("role", "list"), ("user", "get", "a"),
    ("user", "delete", "a"), ("user", "grant-role", "a", "b"), ("role", "get", "a"), ("role", "grant-permission", "a", "read", "k"),
    ("role", "revoke-permission", "a", "k"), ("get", "a", "--user=root:x"),
]


def _same(text: str) -> str:
    """Drop what is a server's own: its identity, and raft's term."""
    text = re.sub(r'"(cluster_id|member_id|raft_term)":\d+,?', "", text)
    return re.sub(r'"(ClusterID|MemberID|RaftTerm)" : \d+\n', "", text)


def test_what_it_prints_is_the_same(both: list[Server]):
    for words in STORY:
        said = [_same(server.ctl(*words)) for server in both]
        assert said[0] == said[-1], words
    hashes = [server.ctl("endpoint", "hashkv").split()[1] for server in both]
    assert hashes[0] == hashes[-1]  # etcd's hash of the whole history


TXNS = [
    'mod("/t/a") = "0"\n\nput /t/a 1\nget /t/ --prefix\n\nget /t/a\n\n',
    'mod("/t/a") = "0"\n\nput /t/a 1\n\nget /t/a\nput /t/b 2\n\n',
    'value("/t/a") = "1"\nver("/t/none") = "0"\n\nput /t/a 2\ndel /t/b\n\n\n',
    'val("/t/none") = ""\n\nput /t/a 3\n\nput /t/c no\n\n',
    'create("/t/a") > "0"\nlease("/t/a") = "0"\n\ndel /t/ --prefix\n\n\n',
    '\nput /t/a 1\nput /t/a 2\n\n\n',
    '\nput /t/a 1\ndel /t/a\n\n\n',
    '\nput /t/a 1\nput /t/b 2\nput /t/c 3\n\n\n',
    'mod("/t/a") > "1"\nmod("/t/b") < "1"\n\n\nget /t/ --prefix\n\n',
]


def test_locks_and_elections_are_held_one_at_a_time(ours: Server):
    assert ours.ctl("lock", "/lock", "echo", "held") == "held\n"
    env = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": ours.url, "PATH": os.environ["PATH"]}
    with subprocess.Popen([servers.CTL or "", "elect", "/leader", "first"], env=env, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        key = first.stdout.readline().strip()
        assert key.startswith("/leader/")
        with subprocess.Popen([servers.CTL or "", "elect", "/leader", "second"], env=env, stdout=subprocess.PIPE, text=True) as second:
            assert second.stdout is not None
            assert ours.ctl("get", key, "--print-value-only") == "first\n"
            first.send_signal(signal.SIGTERM)
            assert second.stdout.readline().startswith("/leader/")
            second.kill()


def test_transactions_are_the_same(both: list[Server]):
    for lines in TXNS:
        said = [_same(server.ctl("txn", stdin=lines)) for server in both]
        assert said[0] == said[-1], lines
        state = [_same(server.ctl("get", "/t/", "--prefix")) for server in both]
        assert state[0] == state[-1], lines


def test_api_version_2_shows_keys_as_a_tree(ours: Server):
    for key in ("/v2/pods/default/a", "/v2/pods/default/b", "/v2/nodes/n", "/v2/_hidden/x"):
        ours.ctl("put", key, f"value of {key}")
    assert ours.ctl("ls", "/v2", api="2").split() == ["/v2/nodes", "/v2/pods"]
    assert ours.ctl("ls", "/v2/pods/default", api="2").split() == ["/v2/pods/default/a", "/v2/pods/default/b"]
    assert ours.ctl("ls", "--recursive", "-p", "/v2/pods", api="2").split() == [
        "/v2/pods/default/", "/v2/pods/default/a", "/v2/pods/default/b"]
    assert "/v2" in ours.ctl("ls", api="2").split()
    assert ours.ctl("get", "/v2/nodes/n", api="2").strip() == "value of /v2/nodes/n"
    assert "Key not found (/v2/none)" in ours.ctl("ls", "/v2/none", api="2") + _complaint(ours, "ls", "/v2/none")
    assert "read only" in _complaint(ours, "set", "/v2/a", "x")
    assert ours.ctl("get", "/v2/a") == ""
    assert "cluster is healthy" in ours.ctl("cluster-health", api="2")


def _complaint(server: Server, *words: str) -> str:
    done = subprocess.run([servers.CTL or "", *words], env={"ETCDCTL_API": "2", "ETCDCTL_ENDPOINTS": server.url}, capture_output=True,
                          text=True, timeout=20, check=False)
    assert done.returncode == 4
    return done.stderr


def test_leases_end_their_keys(ours: Server):
    granted = ours.ctl("lease", "grant", "60")
    lease = granted.split()[1]
    ours.ctl("put", "/leased", "x", f"--lease={lease}")
    assert lease in ours.ctl("lease", "list")
    assert "attached keys([/leased])" in ours.ctl("lease", "timetolive", lease, "--keys")
    assert "keepalived with TTL(60)" in ours.ctl("lease", "keep-alive", "--once", lease)
    assert "revoked" in ours.ctl("lease", "revoke", lease)
    assert ours.ctl("get", "/leased") == ""


def test_status_members_snapshot(ours: Server):
    status = json.loads(ours.ctl("endpoint", "status", "-w", "json"))[0]["Status"]
    assert status["header"]["member_id"] == status["leader"]
    assert "is healthy" in ours.own("endpoint", "health")
    assert ", started, default," in ours.ctl("member", "list")
    assert "MemberAdd is not supported" in ours.ctl("member", "add", "x", "--peer-urls=http://127.0.0.1:1")
    assert "UserAdd is not supported" in ours.ctl("user", "add", "a:b")
    assert "RoleAdd is not supported" in ours.ctl("role", "add", "a")
    assert "Finished" in ours.ctl("defrag")


def test_our_own_etcdctl_prints_the_same(ours: Server):
    ours.ctl("put", "/own/a", "1")
    ours.ctl("put", "/own/b", "1")
    for words in [("get", "/own", "--prefix"), ("get", "--keys-only", "--prefix", "/own"), ("put", "/own/b", "--prev-kv", "2"),
                  ("put", "/own/b", "3", "--prev-kv=true"), ("del", "/own/b", "--prev-kv"), ("get", "/own/a", "--print-value-only"), ("member", "list"),
                  ("get", "/own/a", "--rev=999"), ("lease", "timetolive", "77"), ("compaction", "99999"), ("get", "/own/a", "-w", "json")]:
        real, own = ours.ctl(*words), ours.own(*words)
        if words[0] in ("put", "del"):
            real, own = re.sub(r"\d", "n", real), re.sub(r"\d", "n", own)
            if words[0] == "del":
                continue  # the first of the two has deleted it
        if "json" in words:
            real, own = json.loads(real), json.loads(own)
        assert own == real, words
    assert ours.own("ls", "/own").split() == ["/own/a"]
    assert "Key not found" in ours.own("ls", "/nowhere")
    assert "SUCCESS" in ours.own("txn", stdin='mod("/own/a") > "0"\n\nput /own/c "two words"\n\n\n')
    assert ours.own("get", "/own/c") == "/own/c\ntwo words\n"
    assert "unknown command" in ours.own("frobnicate")


def test_our_own_etcdctl_has_all_forms(ours: Server):
    ours.ctl("put", "/forms/a", "1")
    ours.ctl("put", "/forms/a", stdin='two "lines"\n\ttab \x01 \u00e9\n')
    ours.ctl("del", "/forms/none")
    lease = ours.ctl("lease", "grant", "600").split()[1]
    ours.ctl("put", "/forms/leased", "x", f"--lease={lease}")
    reads = [("get", "/forms", "--prefix"), ("get", "/forms", "--prefix", "--keys-only"), ("lease", "list"), ("alarm", "list"),
             ("lease", "timetolive", lease, "--keys"), ("lease", "keep-alive", "--once", lease), ("member", "list"),
             ("endpoint", "hashkv"), ("put", "/forms/b", "1"), ("del", "/forms/b", "--prev-kv")]
    for words in reads:
        for form in ("fields", "json", "table"):
            real, own = (re.sub(r'("(Revision|revision|ModRevision|CreateRevision|TTL|ttl|Deleted|hash|Hash|compact_revision)" ?: ?)-?\d+', r"\1n",
                                ask(*words, "-w", form)) for ask in (ours.ctl, ours.own))
            if words[0] == "del" and form != "table":
                assert real.startswith(own[:40])  # the first of the two has deleted it
            elif form == "json" and "hashkv" not in words:
                assert json.loads(own.replace(":n", ":1")) == json.loads(real.replace(":n", ":1")), words
            elif "hashkv" not in words:
                assert own == real, (words, form)
    assert ours.own("get", "/forms/leased", "--hex") == ours.ctl("get", "/forms/leased", "--hex") != "/forms/leased\nx\n"
    lines = 'mod("/forms/a") > "0"\n\nput /forms/c 1\nget /forms/a\n\n\n'
    real, own = (re.sub(r'("\w*Revision" : )\d+', r"\1n", ask("txn", "-w", "fields", stdin=lines)) for ask in (ours.ctl, ours.own))
    assert own == real
    assert '"Health" : true' in ours.own("endpoint", "health", "-w", "fields")
    assert json.loads(ours.own("endpoint", "health", "-w", "json"))[0]["health"] is True
    assert "| http" in ours.own("endpoint", "hashkv", "-w", "table")
    assert "AuthRevision: 1" in ours.own("auth", "status")
    assert "table not supported" in ours.own("get", "/forms/a", "-w", "table")


@pytest.mark.parametrize("form", ["json", "fields", "simple"])
def test_our_own_etcdctl_watches_alike(ours: Server, form: str):
    said = []
    for argv in ([servers.CTL or ""], [sys.executable, "-P", "-m", "netlab.store.etcdctl.main"]):
        env = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": ours.url, "PATH": "/nowhere" if len(argv) > 1 else os.environ["PATH"],
               "PYTHONPATH": str(servers.ROOT), "PYTHONUNBUFFERED": "1"}
        first = json.loads(ours.ctl("put", f"/watched/{form}", "1", "-w", "json"))["header"]["revision"]
        ours.ctl("del", f"/watched/{form}")
        with subprocess.Popen([*argv, "watch", f"/watched/{form}", "--rev", str(first), "--prev-kv", "-w", form], env=env,
                              stdout=subprocess.PIPE, text=True) as watching:
            assert watching.stdout is not None
            text, ends = "", {"json": '"type":1', "fields": '"Type" : DELETE', "simple": "DELETE"}[form]
            while ends not in text:
                text += watching.stdout.readline()
            watching.terminate()
            said.append(re.sub(r'(revision" ?: ?)\d+', r"\1n", text, flags=re.IGNORECASE))
    assert said[0] == said[1]


def test_etcdctls_checks_find_the_figures_that_they_read(ours: Server):
    with urllib.request.urlopen(f"{ours.url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert int(re.search(r"^process_resident_memory_bytes (\d+)$", text, re.MULTILINE)[1]) > 10_000_000


def test_a_list_of_members_has_no_revision(both: list[Server]):
    for server in both:
        assert "revision" not in json.loads(server.ctl("member", "list", "-w", "json"))["header"]


def test_ls_needs_no_etcdctl_that_speaks_version_2(ours: Server, tmp_path: Path):
    newer = tmp_path / "etcdctl"  # a program that can do nothing of etcd's, as far as version 2 goes
    newer.write_bytes(Path("/bin/true").read_bytes())
    newer.chmod(0o755)
    ours.ctl("put", "/newer/a", "1")
    env = {"PATH": str(tmp_path), "ETCDCTL_ENDPOINTS": ours.url, "PYTHONPATH": str(servers.ROOT)}
    said = [subprocess.run([sys.executable, "-P", "-m", "netlab.store.etcdctl.main", *words], env=env, capture_output=True, text=True,
                           check=True, timeout=20).stdout for words in (["ls", "/newer"], ["get", "/newer/a"])]
    assert said == ["/newer/a\n", ""]  # what it can do it does itself
