"""The steps between checks: what a reader of the lesson would type, typed."""

from __future__ import annotations

import os
import re
import shlex
import sys

from netlab.kernel import process
from netlab.lab import kubectl
from netlab.lab.check import Check, Step
from netlab.lab.state import LabRecord

_SECONDS = 60.0


async def run(lab: LabRecord, check: Check) -> tuple[bool, str]:
    """Run a step once; return whether it went as asked, and what it said.

    Without `says` it has to end with exit code 0; with it the output has to match, whatever the exit code.
    """
    assert check.step is not None
    argv, env = command(lab, check.step)
    done = await process.run(argv, env=env, timeout=_SECONDS)
    text = (done.stdout + done.stderr).decode(errors="replace").strip()
    if check.says:
        return re.search(check.says, text) is not None, _short(text) or "it says nothing"
    if done.code:
        return False, f"{shlex.join(check.step.argv)}: exit code {done.code}: {_short(text)}"
    return True, _short(text) or "done"


def command(lab: LabRecord, step: Step) -> tuple[list[str], dict[str, str]]:
    """Return (argv, environment) of a step."""
    netlab = [sys.executable, "-P", "-m", "netlab.cli.main", "--name", lab.name]
    if step.at:
        return [*netlab, "exec", step.at, "--", *step.argv], dict(os.environ)
    if step.argv[0] == "kubectl":
        return [*kubectl.argv(lab), *step.argv[1:]], kubectl.environment(lab)
    return [*netlab, *step.argv[1:]], dict(os.environ)


def _short(text: str) -> str:
    lines = text.splitlines()
    return "\n  ".join(lines if len(lines) <= 12 else ["…", *lines[-12:]])
