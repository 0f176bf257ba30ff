"""The command line as a whole: help that is quick, errors that are one line."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import pytest

from netlab.cli import main as cli
from netlab.cli.main import COMMANDS
from netlab.programs import PROGRAMS

HEAVY = ("aiohttp", "pyroute2", "scapy", "iptc", "cryptography", "asyncio", "yaml", "orjson")


def netlab(*argv: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "netlab.cli.main", *argv], capture_output=True, text=True, timeout=60,
                          check=False, env={**os.environ, **(env or {})})


@pytest.fixture
def elsewhere(tmp_path):
    return {"NETLAB_RUN_DIR": str(tmp_path / "run"), "NETLAB_STATE_DIR": str(tmp_path / "state")}


def test_help_imports_nothing_heavy():
    script = ("import sys; from netlab.cli.main import run; run(['--help']); "
              f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


def test_help_is_quick():
    def took(*argv: str) -> float:
        begun = time.perf_counter()
        subprocess.run([sys.executable, *argv], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begun

    netlab("--help")  # compiles
    best = min(took("-m", "netlab.cli.main", "--help") for _ in range(7))
    bare = min(took("-c", "import click") for _ in range(7))
    assert best < 0.080 or best < 2.5 * bare  # 80 ms on an idle machine; on a busy one, what click itself takes


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself(name):
    if name == "kubectl":  # its --help is kubectl's
        pytest.skip("kubectl answers for itself")
    done = netlab(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: netlab {name}")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_name_chooses_the_lab_of_every_command_that_has_one(name):
    if name in ("ls", "scenarios", "doctor", "bench", "completion", "version", "render"):
        pytest.skip("it is about no lab")
    command = cli.netlab.get_command(None, name)  # type: ignore[arg-type]
    group = [command.get_command(None, sub) for sub in command.list_commands(None)] if name == "image" else [command]
    assert all("--name" in parameter.opts for one in group
               for parameter in one.params if parameter.name == "name")
    assert all(any(parameter.name == "name" for parameter in one.params) for one in group)


@pytest.mark.parametrize(("argv", "error", "code"), [
    pytest.param(["stats"], 'error: unknown command "stats": did you mean status?', 2, id="command"),
    pytest.param(["up", "--nods", "3"], "error: No such option '--nods'. Did you mean '--nodes'?", 2, id="option"),
    pytest.param(["up", "nothing-like-it"], 'error: no scenario "nothing-like-it"', 1, id="scenario"),
    pytest.param(["up", "services", "--nodes", "0"], "error: 0 nodes: choose 1", 1, id="nodes"),
    pytest.param(["up", "services", "--name", "Nope!"], 'error: "Nope!" cannot name a lab', 1, id="name"),
    pytest.param(["up", "-f", "/nowhere.yaml"], "error: cannot read /nowhere.yaml: No such file", 1, id="file"),
    pytest.param(["status"], "error: no lab runs", 1, id="no lab"),
    pytest.param(["exec", "pod/a", "--", "true"], "error: no lab runs", 1, id="exec"),
    pytest.param(["kubeconfig", "--name", "x"], 'error: no lab is called "x"', 1, id="named"),
    pytest.param(["kube-proxy", "--no-such-flag"], "unknown flag: --no-such-flag", 1, id="a component's own flags"),
])
def test_mistakes_are_one_line(argv, error, code, elsewhere):
    done = netlab(*argv, env=elsewhere)
    first = done.stderr.splitlines()[0]
    assert (done.returncode, done.stdout) == (code, "")
    assert error in first
    assert "Traceback" not in done.stderr


def test_down_twice_is_fine(elsewhere):
    for argv in (["down"], ["down", "--name", "x"], ["down", "--all"]):
        assert netlab(*argv, env=elsewhere).returncode == 0


def test_a_fault_of_our_own_is_no_traceback_but_tells_where_it_is(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(cli.netlab, "main", lambda *a, **k: 1 / 0)
    assert cli.run(["ls"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: this is a fault of netlab's: ZeroDivisionError")
    (kept,) = tmp_path.iterdir()
    assert str(kept) in said
    assert "Traceback" in kept.read_text()


def test_a_reader_that_leaves_is_no_error():
    done = subprocess.run(f"{sys.executable} -m netlab.cli.main --help | head -n 1", shell=True, capture_output=True,
                          text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    done = netlab("completion", shell)
    assert done.returncode == 0
    assert "_NETLAB_COMPLETE" in done.stdout


def test_completion_knows_commands_and_options():
    done = netlab(env={"_NETLAB_COMPLETE": "bash_complete", "COMP_WORDS": "netlab up --no", "COMP_CWORD": "2"})
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} >= {"--nodes", "--no-kubeconfig"}


def test_components_are_hidden_commands():
    assert not set(PROGRAMS) & set(COMMANDS)
    done = netlab("agnhost", "--help")
    assert done.returncode == 0


def test_a_program_whose_reader_has_had_enough_says_nothing():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-P", "-m", "netlab.cli.main", "kube-proxy", "--help"], stdout=writer,
                          stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
