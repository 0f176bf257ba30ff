from __future__ import annotations

import pytest

from netlab.errors import ManifestError
from netlab.scheduler import config
from netlab.scheduler.main import main

HEAD = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"


def load(tmp_path, text):
    (tmp_path / "c.yaml").write_text(text)
    return config.load(str(tmp_path / "c.yaml"))


def test_profiles_and_plugins(tmp_path):
    found = load(tmp_path, HEAD + """
clientConnection: {kubeconfig: /etc/kubernetes/scheduler.conf}
leaderElection: {leaderElect: false, leaseDuration: 30s}
profiles:
- schedulerName: default-scheduler
- schedulerName: packed
  plugins:
    score:
      disabled: [{name: "*"}]
      enabled: [{name: NodeResourcesFit, weight: 7}]
    filter:
      disabled: [{name: TaintToleration}]
""")
    assert found.kubeconfig == "/etc/kubernetes/scheduler.conf"
    assert found.leader_election == {"leaderElect": False, "leaseDuration": 30.0}
    plain, packed = found.profiles
    assert plain.weights == config.default_profile().weights
    assert (packed.name, packed.weights) == ("packed", {"NodeResourcesFit": 7})
    assert "TaintToleration" not in {plugin.name for plugin in packed.plugins}


@pytest.mark.parametrize("text", ["kind: Pod", "a: [", HEAD + "profiles: [{plugins: {score: {enabled: [{name: X}]}}}]",
                                  HEAD + "profiles: [{}, {}]"])
def test_what_is_no_configuration(tmp_path, text, capsys):
    with pytest.raises(ManifestError):
        load(tmp_path, text)
    assert main([f"--config={tmp_path / 'c.yaml'}"]) == 1
    assert len(capsys.readouterr().err.splitlines()) >= 1


def test_help(capsys):
    assert main(["--help"]) == 0
    assert "--leader-elect" in capsys.readouterr().out
