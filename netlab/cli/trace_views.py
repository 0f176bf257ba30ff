"""How `netlab trace` shows what it found: the options of its views, and the printing and saving."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from netlab.cli.options import output

if TYPE_CHECKING:
    from netlab.trace.views import Subject

_CONTROL = re.compile(r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f]")
F = TypeVar("F", bound=Callable[..., Any])


def options(function: F) -> F:
    """Add `-o`, `--save`, `-w`, `--from-json` and `--color`."""
    file = click.Path(allow_dash=True)
    every: list[Callable[[F], F]] = [
        click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
                     help="Colours: by default on a terminal, unless NO_COLOR is set."),
        click.option("--from-json", metavar="FILE", type=file, default="", help="Show a trace that was saved as JSON "
                     "(- reads standard input); needs no lab and no root."),
        click.option("-w", "--write", metavar="FILE.pcapng", type=file, default="", help="Also write all packets on "
                     "all interfaces for Wireshark, with hops and rules as comments (- writes nothing else to standard "
                     "output)."),
        click.option("--save", metavar="FILE", type=file, multiple=True, help="Also save it, in the format that the "
                     "name ends with: .json .yaml .txt .mmd .svg .html .pcapng; may be given several times."),
        output("json", "yaml", "mermaid", "svg", "html"),
    ]
    for option in every:
        function = option(function)
    return function


def check(save: Sequence[str], source: str, target: str, from_json: str) -> None:
    """See before anything is sent that the result can be shown.

    Raises:
        UsageError: FROM and TO are missing, or there is something in their place; a file's name tells no format.
    """
    from netlab.errors import UsageError
    from netlab.trace.views import format_of

    for path in save:
        format_of(path)
    if from_json and source:
        raise UsageError("FROM and TO are not sent when a saved trace is shown", hint="leave them out, or --from-json")
    if not from_json and not (source and target):
        raise UsageError(f"want FROM and TO{f', got only {source}' if source else ''}",
                         hint="such as: netlab trace pod/client svc/web")


def load(path: str) -> Subject:
    """Return the trace that a file holds; "-" is standard input.

    Raises:
        NotFound: no such file; ManifestError: it is no trace.
    """
    from netlab.errors import NotFound
    from netlab.trace import saved

    if path == "-":
        return saved.read(sys.stdin.buffer.read(), "standard input")
    try:
        with open(path, "rb") as file:
            return saved.read(file.read(), path)
    except OSError as error:
        raise NotFound(f"can't read {path}: {error.strerror}") from None


def show(subject: Subject, *, output: str, save: Sequence[str], write: str, color: str, policies: bool) -> int:
    """Print a trace and save it. Returns the exit code: 0 when there was an answer."""
    from netlab.trace.verdict import GOOD
    from netlab.trace.views import format_of, render

    for path in save:
        put(path, render(subject, format_of(path)))
    if write:
        put(write, render(subject, "pcapng"))
    if output:
        click.echo(render(subject, output).decode(), nl=False)
    elif write != "-":
        click.echo(_words(subject, color=color, policies=policies))
    return 0 if subject.trace.outcome.status in GOOD else 1


def put(path: str, content: bytes) -> None:
    """Write a file whole or not at all; "-" is standard output.

    Raises:
        UsageError: it can't be written.
    """
    from netlab.errors import UsageError

    if path == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    part = f"{path}.part{os.getpid()}"
    special = os.path.exists(path) and not os.path.isfile(path)  # /dev/stdout, a named pipe
    try:
        with open(path if special else part, "wb") as file:
            file.write(content)
        if not special:
            os.replace(part, path)
    except OSError as error:
        raise UsageError(f"can't write {path}: {error.strerror}") from None
    finally:
        if os.path.exists(part):
            os.unlink(part)


def colored(color: str) -> bool:
    """Tell whether the output has colours, by `--color`."""
    return color == "always" or (color == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))


def _words(subject: Subject, *, color: str, policies: bool) -> str:
    """Return the text for people: folded at the terminal's width, in a pipe as long as it is."""
    from netlab.trace import foretell
    from netlab.trace.fold import fold
    from netlab.trace.render import as_text

    styled = colored(color)
    text = as_text(subject.trace, color=styled, policies=policies, links=subject.links)
    if subject.agreement is not None:
        text += "\n" + foretell.compared(subject.agreement, color=styled)
    text = _CONTROL.sub("\ufffd", text)  # a rule's comment may hold what would drive the terminal
    return fold(text, shutil.get_terminal_size().columns if sys.stdout.isatty() else 0, hang=16)
