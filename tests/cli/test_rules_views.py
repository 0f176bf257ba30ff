"""The views of `netlab rules`: chosen by the first word, and what of them needs no lab."""

from __future__ import annotations

import json

import pytest

from netlab.cli.main import run
from netlab.cli.rules import VIEWS
from netlab.netfilter.render import ruleset
from tests.inspect.worlds import objects
from tests.proxy.builders import rules_for


@pytest.mark.parametrize("view", list(VIEWS))
def test_every_view_explains_itself(capsys, view: str):
    assert run(["rules", view, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: netlab rules {view}")
    assert run(["rules", "--help"]) == 0
    assert f"  {view} " in capsys.readouterr().out


def test_two_files_are_compared_without_a_lab(capsys, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(ruleset(rules_for(*objects("10.244.1.5"))))
    two.write_text(ruleset(rules_for(*objects("10.244.1.5", "10.244.2.6"))))
    assert run(["rules", "diff", str(one), str(two)]) == 0
    said = capsys.readouterr().out
    assert "default/web:http tcp: endpoint 10.244.2.6:8080 is new, it has 50.0%" in said
    assert "(--all shows them)" in said
    assert run(["rules", "diff", str(one), str(two), "-o", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["differences"]
    assert [part["service"] for part in found["services"]] == ["default/web"]


@pytest.mark.parametrize(("argv", "said"), [
    (["diff"], "want two sides"), (["diff", "--"], "either two sides, or -- and a command"),
    (["diff", "a", "b", "--", "true"], "either two sides, or -- and a command"), (["diff", "/nowhere", "/nowhere"], "cannot read /nowhere"),
    (["-o", "json", "diff", "/nowhere", "/nowhere"], "cannot read /nowhere"), (["--node", "diff", "diff"], "want two sides"), (["diff", __file__, __file__], "is not iptables-save text")])
def test_mistakes_are_one_line(capsys, argv: list[str], said: str):
    assert run(["rules", *argv]) == 1
    assert said in capsys.readouterr().err


def test_a_rule_may_start_with_a_dash(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("NETLAB_RUN_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("NETLAB_STATE_DIR", str(tmp_path / "state"))
    assert run(["rules", "why", "-A FORWARD -o eth0 -j DROP"]) == 1
    assert "no lab runs" in capsys.readouterr().err
