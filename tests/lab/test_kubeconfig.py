"""Merging a lab's context into the user's kubeconfig, and taking it out again."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest
import yaml

from netlab.errors import UsageError
from netlab.lab import kubeconfig
from netlab.lab.kubeconfig import Owner
from netlab.lab.pki import Authority

OTHER = {"apiVersion": "v1", "kind": "Config", "current-context": "work",
         "clusters": [{"name": "work", "cluster": {"server": "https://example.org"}}],
         "contexts": [{"name": "work", "context": {"cluster": "work", "user": "me"}}],
         "users": [{"name": "me", "user": {"token": "secret"}}], "preferences": {"colors": True}}


@pytest.fixture
def owner(tmp_path):
    return Owner(os.geteuid(), os.getegid(), tmp_path)


@pytest.fixture(scope="module")
def addition():
    ca = Authority("test", now=1_700_000_000.0)
    return kubeconfig.admin("one", port=12345, ca=ca.pair.certificate, pair=ca.client("admin", "system:masters"))


def test_a_new_file_is_the_owners_alone(tmp_path, owner, addition):
    path = tmp_path / ".kube" / "config"
    kubeconfig.merge(path, addition, owner)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert yaml.safe_load(path.read_text())["current-context"] == "netlab-one"
    assert os.listdir(path.parent) == ["config"]


def test_what_was_there_stays(tmp_path, owner, addition):
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(OTHER))
    path.chmod(0o640)
    kubeconfig.merge(path, addition, owner)
    kubeconfig.merge(path, addition, owner)
    merged = yaml.safe_load(path.read_text())
    assert [row["name"] for row in merged["clusters"]] == ["work", "netlab-one"]
    assert merged["preferences"] == {"colors": True}
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    kubeconfig.remove(path, "one", owner)
    kubeconfig.remove(path, "one", owner)
    assert yaml.safe_load(path.read_text()) == {**OTHER, "current-context": ""}


def test_another_current_context_survives_down(tmp_path, owner, addition):
    path = tmp_path / "config"
    path.write_text(yaml.safe_dump(OTHER))
    kubeconfig.merge(path, addition, owner)
    path.write_text(path.read_text().replace("current-context: netlab-one", "current-context: work"))
    kubeconfig.remove(path, "one", owner)
    assert yaml.safe_load(path.read_text()) == OTHER


def test_a_link_is_followed_not_replaced(tmp_path, owner, addition):
    real = tmp_path / "real"
    real.write_text(yaml.safe_dump(OTHER))
    (tmp_path / "config").symlink_to(real)
    kubeconfig.merge(tmp_path / "config", addition, owner)
    assert (tmp_path / "config").is_symlink()
    assert "netlab-one" in real.read_text()


@pytest.mark.parametrize("text", ["- a list\n", "kind: Pod\n", "a: [\n"])
def test_a_file_that_is_no_kubeconfig_is_left_alone(text, tmp_path, owner, addition):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(UsageError, match="is not a kubeconfig"):
        kubeconfig.merge(path, addition, owner)
    assert path.read_text() == text
    assert os.listdir(tmp_path) == ["config"]


def test_kubectls_lock_is_respected(tmp_path, owner, addition, monkeypatch):
    monkeypatch.setattr(kubeconfig, "_LOCK_SECONDS", 0.05)
    path = tmp_path / "config"
    (tmp_path / "config.lock").touch()
    with pytest.raises(UsageError, match=r"config\.lock exists"):
        kubeconfig.merge(path, addition, owner)
    assert not path.exists()


def test_two_labs_at_once_lose_nothing(tmp_path, addition):
    script = ("import sys, os; from netlab.lab import kubeconfig as k; from pathlib import Path\n"
              "name = sys.argv[2]; row = {'name': name}\n"
              "add = {'clusters': [row], 'contexts': [row], 'users': [row], 'current-context': name}\n"
              "k.merge(Path(sys.argv[1]), add, k.Owner(os.geteuid(), os.getegid(), Path('/')))\n")
    path = tmp_path / "config"
    running = [subprocess.Popen([sys.executable, "-c", script, str(path), f"n{number}"]) for number in range(6)]
    assert [process.wait(30) for process in running] == [0] * 6
    assert {row["name"] for row in yaml.safe_load(path.read_text())["users"]} == {f"n{number}" for number in range(6)}


@pytest.mark.root
def test_under_sudo_the_file_belongs_to_the_calling_user(tmp_path, addition, monkeypatch):
    monkeypatch.setenv("SUDO_UID", "65534")
    assert kubeconfig.calling_user().uid == 65534
    owner = Owner(65534, 65534, tmp_path)
    path = tmp_path / ".kube" / "config"
    kubeconfig.merge(path, addition, owner)
    assert (path.stat().st_uid, path.parent.stat().st_uid) == (65534, 65534)


def test_the_users_own_variable_chooses_the_file(tmp_path, owner, monkeypatch):
    monkeypatch.delenv("KUBECONFIG", raising=False)
    assert kubeconfig.user_file(owner) == tmp_path / ".kube" / "config"
    (tmp_path / "b").touch()
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/a:{tmp_path}/b")
    assert kubeconfig.user_file(owner) == tmp_path / "b"
