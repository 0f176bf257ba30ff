"""`netlab capture`: packets of many places at once, as one pcapng or a line each."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING, BinaryIO

import click

from netlab.cli import complete
from netlab.cli.options import attach as attach_options
from netlab.cli.options import lab_name, output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from netlab.trace.capture import Recorder, Total
    from netlab.trace.recording import Source
    from netlab.trace.sinks import Lines, Pcapng


@click.command("capture", short_help="Capture packets of many Pods and nodes at once, for Wireshark or as lines")
@click.argument("places", metavar="[PLACE]…", nargs=-1, shell_complete=complete.destinations)
@click.option("-l", "--selector", metavar="LABELS", default="", help="Also the Pods with these labels, and those that "
              "come to have them, as long as they live.")
@click.option("-n", "--namespace", metavar="NS", default="default", show_default=True, help="Of the Pods of -l.")
@click.option("-A", "--all-namespaces", is_flag=True, help="The Pods of -l in all namespaces.")
@click.option("-w", "--write", metavar="FILE", type=click.Path(allow_dash=True), default="",
              help="Write one pcapng with an interface for each of each place (- is standard output, for "
              "Wireshark); without it a line for each packet is printed.")
@click.option("-f", "--filter", "expression", metavar="EXPR", default="",
              help="Only what this matches, in tcpdump's words: 'tcp port 80 and not host 10.244.1.2'.")
@click.option("-i", "--interface", metavar="IFACE", multiple=True,
              help="Only these interfaces; patterns such as veth* are understood; may be given several times.")
@click.option("-c", "--count", type=click.IntRange(1), default=None, metavar="N", help="End after N packets.")
@click.option("--duration", type=click.FloatRange(0.01), default=None, metavar="SECONDS", help="End after so long.")
@click.option("-s", "--snaplen", type=click.IntRange(34, 262144), default=262144, metavar="BYTES",
              help="Keep so many bytes of each packet; all by default.")
@click.option("--names", is_flag=True, help="Names beside the addresses in the lines; JSON and "
              "pcapng have them anyway.")
@attach_options
@output("json")
@lab_name
def command(places: tuple[str, ...], selector: str, namespace: str, write: str, expression: str,
            interface: tuple[str, ...], count: int | None, duration: float | None, snaplen: int,
            attach: tuple[str, ...], kubeconfig: str, objects: str, output: str, name: str, *,
            all_namespaces: bool, names: bool) -> int:
    """Capture in many network namespaces at once, until Ctrl-C.

    \b
    netlab capture pod/client node/worker1 -f 'tcp port 80'      a line for each packet
    netlab capture -l app=web -w web.pcapng --duration 10        all Pods of a label, also those that start meanwhile
    netlab capture all -w - | wireshark -k -i -                  everything, live
    netlab capture --attach auto -w node.pcapng                  on a Kubernetes node, or where kind runs

    PLACE is node/NAME, pod/NAME, pod/NAMESPACE/NAME, deploy/NAME, svc/NAME (all their Pods), outside, fabric or all.
    A packet shows once for each interface that it crosses. What the kernel had no room for is counted and told at the
    end, and stands in the file.
    """
    import asyncio

    from netlab.errors import UsageError
    from netlab.kernel.pcapfilter import compile_filter
    from netlab.trace.capture import patterns

    if not attach and not places and not selector:
        raise UsageError("want a place or a selector",
                         hint="such as: netlab capture pod/client, netlab capture -l app=web, netlab capture all")
    if (kubeconfig or objects) and not attach:
        raise UsageError("--kubeconfig and --objects give names to --attach", hint="a lab has its own API server")
    if write and output:
        raise UsageError("-w writes a file and -o lines", hint="choose one")
    if write == "-" and sys.stdout.isatty():
        raise UsageError("-w - writes binary data, and standard output is a terminal",
                         hint="pipe it: netlab capture … -w - | wireshark -k -i -")
    program = compile_filter(expression)
    wanted = "" if all_namespaces else namespace
    with _opened(write) as stream:
        task = _Task(stream, output, expression, snaplen, count or 0, duration or 0, patterns(interface), program,
                     names=names)
        if attach:
            total = asyncio.run(task.attached(attach, places, selector, wanted, kubeconfig, objects))
        else:
            from netlab.lab import state

            total = asyncio.run(task.lab(state.find(name), places, selector, wanted))
    if total.why:
        click.echo(f"ended: {total.why}", err=True)
    click.echo(words(total, write), err=True)
    return 0


def words(total: Total, write: str) -> str:
    """Return how a capture ended, in a line."""
    to = f" written to {write}" if write and write != "-" else ""
    lost = f"{total.lost} dropped by the kernel for want of room" if total.lost else "none dropped"
    packets, interfaces, places = (_count(number, word) for number, word in (
        (total.frames, "packet"), (total.interfaces, "interface"), (total.places, "place")))
    return f"{packets}{to}, {lost}; {interfaces} of {places}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _began(places: int, absent: Sequence[str]) -> None:
    what = f"listening in {_count(places, 'place')}" if places else "no such Pod runs yet: waiting for one"
    click.echo(f"{what}; Ctrl-C ends", err=True)
    if absent:
        click.echo(f"no interface there is called {' or '.join(absent)} yet", err=True)


@contextlib.contextmanager
def _opened(write: str) -> Iterator[BinaryIO | None]:
    from netlab.errors import UsageError

    if not write:
        yield None
    elif write == "-":
        yield sys.stdout.buffer
    else:
        try:
            stream = open(write, "wb")  # noqa: SIM115 - closed below; errors of the body are not errors of opening
        except OSError as error:
            raise UsageError(f"can't write {write}: {error.strerror}") from None
        try:
            with stream:
                yield stream
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                raise
            raise UsageError(f"can't go on writing {write}: {error.strerror}") from None
        finally:
            if os.path.isfile(write) and not os.path.getsize(write):  # it never came to a capture
                os.unlink(write)


class _Task:
    """One run of the command: where frames go, and what ends it."""

    def __init__(self, stream: BinaryIO | None, output: str, expression: str, snaplen: int, count: int,
                 duration: float, interfaces: tuple[str, ...], program: list[tuple[int, int, int, int]],
                 *, names: bool) -> None:
        self._stream, self._output, self._expression, self._snaplen = stream, output, expression, snaplen
        self._names = names
        self._count, self._duration, self._interfaces, self._program = count, duration, interfaces, program

    async def lab(self, lab: object, places: tuple[str, ...], selector: str, namespace: str) -> Total:
        """Capture in a lab."""
        import logging

        from netlab.lab import capturing

        logging.getLogger("netlab").setLevel(logging.ERROR)  # an API server that is away for a while is no news here
        async with capturing.source(lab, places, selector, namespace) as source:  # type: ignore[arg-type]
            return await self._run(source, lambda: source.links, lambda: source.names)

    async def attached(self, attach: tuple[str, ...], places: tuple[str, ...], selector: str, namespace: str,
                       kubeconfig: str, objects: str) -> Total:
        """Capture on a machine that is no lab."""
        from netlab.trace import attach as attaching

        source = await attaching.source(attach, places, selector, namespace, kubeconfig=kubeconfig, file=objects)
        return await self._run(source, lambda: source.links, lambda: source.names)

    async def _run(self, source: Source, links: Callable[[], Mapping[str, str]],
                   names: Callable[[], Mapping[str, str]]) -> Total:
        import asyncio
        import signal
        import time

        from netlab.trace.capture import Recorder
        from netlab.trace.recording import record

        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        recorder: Recorder = Recorder(self._sink(links, names), clock=time.time_ns, program=self._program,
                                      interfaces=self._interfaces, snap_length=self._snaplen, most=self._count)
        return await record(recorder, source, stop, duration=self._duration, began=_began)

    def _sink(self, links: Callable[[], Mapping[str, str]],
              names: Callable[[], Mapping[str, str]]) -> Pcapng | Lines:
        from netlab.trace.sinks import Lines, Pcapng

        if self._stream is not None:
            return Pcapng(self._stream, filter=self._expression, snap_length=self._snaplen, far_ends=links,
                          names=names)
        return Lines(lambda text: click.echo(text, nl=False), as_json=bool(self._output),
                     names=names if self._names or self._output else dict)
