"""`netlab test`: scenarios up, checked, down."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from netlab.cli.options import complete_scenario
from netlab.cli.options import output as output_option

if TYPE_CHECKING:
    from netlab.lab.plan import IpFamily


@click.command("test")
@click.argument("scenarios", nargs=-1, metavar="SCENARIO...", shell_complete=complete_scenario)
@click.option("--name", metavar="LAB", default="", help="Check a lab that runs, instead of starting one.")
@click.option("--nodes", type=int, metavar="N", help="How many nodes, whatever the scenario says.")
@click.option("--ip-family", type=click.Choice(("ipv4", "ipv6", "dual")), help="Address families, whatever it says.")
@click.option("--proxy-mode", metavar="MODE", default="", help="kube-proxy's mode, whatever the scenario says.")
@output_option()
def command(scenarios: tuple[str, ...], name: str, nodes: int | None, ip_family: IpFamily | None, proxy_mode: str,
            output: str) -> int:
    """Bring each scenario up under a fresh name, run its checks, take it down.

    The exit code is 1 when a check failed or a scenario did not come up. Without SCENARIO all that come with netlab
    are tested.
    """
    from netlab.cli import progress as shown
    from netlab.cli.output import emit, table
    from netlab.errors import NetlabError
    from netlab.lab import scenario as asked
    from netlab.lab import state

    wanted = [asked.load(text) for text in (scenarios or asked.names())]
    if nodes is not None:
        wanted = [scenario.with_nodes(nodes) for scenario in wanted]
    wanted = [scenario.with_networking(family=ip_family, mode=proxy_mode) for scenario in wanted]
    if name and len(wanted) != 1:
        raise click.UsageError("--name takes one SCENARIO: the one whose checks are to be run")
    rows: list[dict[str, Any]] = []
    for scenario in wanted:
        try:
            results = _check(state.find(name), scenario) if name else _whole(scenario, shown.choose(quiet=bool(output)))
        except NetlabError as error:
            results = [{"scenario": scenario.name, "check": "the lab comes up", "passed": False, "seconds": 0.0,
                        "seen": str(error)}]
        rows += results
        if not output:
            click.echo(table(["SCENARIO", "RESULT", "TIME", "CHECK"],
                             [[row["scenario"], _word(row), f"{row['seconds']:.1f}s",
                               row["check"]] for row in results]))
            for row in results:
                if not row["passed"]:
                    click.echo(f"\nFAILED {row['scenario']}: {row['check']}\n  {row['seen']}")
    failed = sum(not row["passed"] for row in rows)
    skipped = sum(bool(row.get("skipped")) for row in rows)
    if output:
        emit(rows, output)
    else:
        click.echo(f"\n{len(rows) - failed - skipped} passed, {failed} failed"
                   + (f", {skipped} about another mode of kube-proxy" if skipped else ""))
    return 1 if failed else 0


def _word(row: dict[str, Any]) -> str:
    return "skipped" if row.get("skipped") else "ok" if row["passed"] else "FAILED"


def _whole(scenario: Any, progress: Any) -> list[dict[str, Any]]:
    """Run a scenario from up to down."""
    from netlab.lab import launcher, state

    number = 1
    while state.load(fresh := f"test-{scenario.lab[:15].strip('-')}-{number}") is not None:
        number += 1
    begun = time.monotonic()
    record = launcher.up(scenario, launcher.Options(fresh, merge=False), progress)
    up = {"scenario": scenario.name, "check": "the lab comes up", "passed": True,
          "seconds": time.monotonic() - begun, "seen": ""}
    try:
        return [up, *(_check_in_child(record, scenario) if record.rootless else _check(record, scenario))]
    finally:
        launcher.down(fresh)


def _check(record: Any, scenario: Any) -> list[dict[str, Any]]:
    from netlab.lab import checks

    async def body() -> list[dict[str, Any]]:
        return [{"scenario": scenario.name, "check": result.check.name, "passed": result.passed,
                 "skipped": result.skipped, "seconds": result.seconds, "seen": result.seen}
                async for result in checks.run(record, scenario.checks)]

    return asyncio.run(body())


def _check_in_child(record: Any, scenario: Any) -> list[dict[str, Any]]:
    """Check a rootless lab, which one has to enter for good: this process has a lab to take down, and more to start."""
    from netlab.errors import KernelError
    from netlab.kernel.process import run_sync

    done = run_sync([sys.executable, "-P", "-m", "netlab.cli.main", "test", scenario.file, "--name", record.name,
                     "-o", "json"])
    try:
        rows: list[dict[str, Any]] = json.loads(done.stdout)
    except ValueError:
        raise KernelError(f"the checks ended early: {done.stderr.decode(errors='replace').strip()}") from None
    return rows
