"""The command `netlab`: finds a command's file only when that command is asked for, and turns errors into one line."""

from __future__ import annotations

import importlib
import os
import sys
from typing import NamedTuple

import click

from netlab import __version__
from netlab.errors import NetlabError
from netlab.programs import PROGRAMS


class Entry(NamedTuple):
    """One line of the help: its section, its words, and the file in cli/ that holds the click command `command`."""

    section: str
    help: str
    file: str = ""


COMMANDS: dict[str, Entry] = {
    "up": Entry("Labs", "Start a lab from a scenario or from Kubernetes manifests"),
    "import": Entry("Labs", "Rebuild a real cluster's network from what kubectl says of it", "import_"),
    "down": Entry("Labs", "Stop a lab and remove all that it made"),
    "ls": Entry("Labs", "List the labs that run"),
    "status": Entry("Labs", "Show a lab's nodes, components, Pods, ports and memory"),
    "scenarios": Entry("Labs", "List the lessons that come with netlab, a line each"),
    "test": Entry("Labs", "Bring scenarios up, run their checks, take them down"),
    "trace": Entry("See inside", "Send one connection and show every interface and rule that it crosses"),
    "capture": Entry("See inside", "Capture packets of many Pods and nodes at once, for Wireshark or as lines"),
    "rules": Entry("See inside", "Show the rules of Services as the kernel holds them"),
    "render": Entry("See inside", "Print what kube-proxy would write for some objects, without a lab"),
    "request": Entry("See inside", "Show a request's way through the API server, or list the last ones"),
    "kubectl": Entry("Places", "Run kubectl against a lab"),
    "kubeconfig": Entry("Places", "Print a lab's kubeconfig"),
    "shell": Entry("Places", "Open a shell in a node, a Pod or the outside host"),
    "exec": Entry("Places", "Run one command in a node, a Pod or the outside host"),
    "image": Entry("Places", "Load image archives into a lab, and list its images"),
    "doctor": Entry("This machine", "Say what this kernel and machine can do, and how to get the rest"),
    "bench": Entry("This machine", "Measure netlab on this machine"),
    "completion": Entry("This machine", "Print the completion script for bash, zsh or fish"),
    "version": Entry("This machine", "Print the versions of netlab and of what it stands on"),
}


class Commands(click.Group):  # the signatures are click's
    """A click group whose commands are imported on use: `netlab --help` must not pay for aiohttp or pyroute2."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the file of one command; None when there is no such command."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"netlab.cli.{entry.file or cmd_name}")
        command: click.Command = module.command
        return command

    def resolve_command(self, ctx: click.Context,
                        args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or fail with the nearest names."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=2) if args else []
            if not near:
                raise
            words = f'unknown command "{args[0]}": did you mean {" or ".join(near)}?'
            raise click.UsageError(words, error.ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table of commands by section, from COMMANDS alone."""
        for section in dict.fromkeys(entry.section for entry in COMMANDS.values()):
            with formatter.section(section):
                formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items() if entry.section == section])


EPILOG = """\b
PLACE is node/worker1, pod/web-1, pod/NAMESPACE/web-1, outside or fabric.
Start with: netlab up services"""


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
               epilog=EPILOG)
@click.option("--name", metavar="LAB", envvar="NETLAB_NAME", help="Which lab; needed only when several run.")
@click.version_option(__version__, "-V", "--version", message="netlab %(version)s")
def netlab(name: str | None) -> None:
    """Kubernetes' inside on one Linux machine: real Pod networks, and the rule that every packet hit."""


def main() -> None:
    """Run the command line of this process and exit."""
    sys.exit(run(sys.argv[1:]))


def run(argv: list[str]) -> int:
    """Run one command line. Returns the exit code; whatever goes wrong is one line on standard error."""
    if argv and argv[0] in PROGRAMS:  # `netlab kube-proxy --flags…`: the component's own flags, untouched
        from netlab.programs import main as run_program

        try:
            code = run_program(argv)
            sys.stdout.flush()
        except BrokenPipeError:  # `netlab kube-proxy --help | head`: who read has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        return code
    try:
        result = netlab.main(argv, prog_name="netlab", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.exceptions.Abort:
        return _fail("interrupted", code=130)
    except click.NoSuchOption as error:
        return _fail(error.format_message(), hint=_help_hint(error), code=2)
    except click.UsageError as error:
        return _fail(error.format_message().rstrip("."), hint=_help_hint(error), code=2)
    except click.ClickException as error:
        return _fail(error.format_message())
    except NetlabError as error:
        return _fail(str(error), hint=error.hint)
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # `netlab … | head`: the reader has had enough
        return 141
    except Exception as error:  # noqa: BLE001 - the last line of defence against a traceback
        return _bug(error)
    return result if isinstance(result, int) else 0


def _help_hint(error: click.UsageError) -> str:
    return f"see: {error.ctx.command_path} --help" if error.ctx else "see: netlab --help"


def _fail(message: str, *, hint: str = "", code: int = 1) -> int:
    sys.stdout.flush()
    click.echo(f"error: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return code


def _bug(error: Exception) -> int:
    import tempfile
    import traceback

    if os.environ.get("NETLAB_DEBUG"):
        traceback.print_exc()
        return 1
    handle, path = tempfile.mkstemp(prefix="netlab-error-", suffix=".txt")
    with os.fdopen(handle, "w") as file:
        traceback.print_exc(file=file)
    return _fail(f"this is a fault of netlab's: {type(error).__name__}: {error}", hint=f"the details are in {path}")


if __name__ == "__main__":
    main()
