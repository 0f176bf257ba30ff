"""The program agnhost: one subcommand per server or probe."""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Final

from netlab import klog
from netlab.errors import NetlabError

COMMANDS: Final = {  # subcommand: (module, function, what it does)
    "connect": ("connect", "main", "try to reach HOST:PORT; print TIMEOUT, REFUSED, DNS or OTHER when it fails"),
    "dns-server-list": ("files", "dns_server_list", "print the name servers of /etc/resolv.conf"),
    "dns-suffix": ("files", "dns_suffix", "print the search path of /etc/resolv.conf"),
    "echo-server": ("echo", "main", "tell what arrived, over HTTP, TCP and UDP, as JSON"),
    "entrypoint-tester": ("lines", "entrypoint", "print the command line, and end"),
    "etc-hosts": ("files", "etc_hosts", "print /etc/hosts"),
    "guestbook": ("guestbook", "main", "the tutorial's front end and store"),
    "liveness": ("webserver", "liveness", "an HTTP server that is well for ten seconds"),
    "load": ("load", "main", "ask a URL from a fixed number of connections; print the result as JSON"),
    "logs-generator": ("lines", "generate", "write numbered lines, evenly over some time"),
    "mounttest": ("mounts", "main", "tell what a volume is to this user"),
    "nc": ("nc", "main", "connect to HOST PORT, as netcat does"),
    "netexec": ("netexec", "main", "HTTP and UDP server of the network tests"),
    "pause": ("main", "pause", "wait until SIGTERM"),
    "porter": ("porter", "main", "serve on the ports of the variables SERVE_{,TLS_,SCTP_}PORT_<port>"),
    "serve-hostname": ("hostname", "main", "tell the host name over HTTP, TCP or UDP"),
    "test-webserver": ("webserver", "main", "serve the container's files over HTTP"),
    "tcp-reset": ("reset", "main", "answer every connection with a reset"),
}
VERSION: Final = "2.63.0"


def main(argv: list[str]) -> int:
    """Run the subcommand that argv begins with."""
    command, *rest = argv or ["--help"]
    if command in ("--help", "-h", "help"):
        sys.stdout.write(usage())
        return 0
    if command == "--version":
        sys.stdout.write(f"agnhost version {VERSION} (netlab's)\n")
        return 0
    if command not in COMMANDS:
        sys.stderr.write(f'agnhost: unknown command "{command}"; agnhost --help lists them\n')
        return 1
    klog.setup()
    module, function, _ = COMMANDS[command]
    if rest and rest[0] in ("--help", "-h"):
        sys.stdout.write(f"agnhost {command}: {COMMANDS[command][2]}\n")
        return 0
    try:
        found = getattr(importlib.import_module(f"netlab.agnhost.{module}"), function)
        return int(found(rest))
    except NetlabError as error:
        sys.stderr.write(f"agnhost {command}: {error}\n")
        return 1


def usage() -> str:
    """Return the text of --help."""
    width = max(map(len, COMMANDS))
    return "\n".join(["agnhost: servers and probes for network tests", "", "Usage:", "  agnhost COMMAND [flags]", "",
                      "Commands:", *(f"  {name:<{width}}  {words}" for name, (_, _, words) in COMMANDS.items()), ""])


def pause(argv: list[str]) -> int:  # noqa: ARG001 - all subcommands are called alike
    """Wait until SIGTERM or SIGINT."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
