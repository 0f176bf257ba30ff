"""agnhost logs-generator and entrypoint-tester: lines on standard output."""

from __future__ import annotations

import random
import string
import sys
import time
from typing import Final

from netlab.errors import UsageError
from netlab.flags import Flag, parse

FLAGS: Final = (
    Flag("log-lines-total", "int", 0, "how many lines"), Flag("t", "int", 0, "the same"),
    Flag("run-duration", "duration", 0.0, "in how long a time"), Flag("d", "duration", 0.0, "the same"),
)
_METHODS, _NAMESPACES = ("GET", "POST", "PUT"), ("kube-system", "default", "ns")


def generate(argv: list[str]) -> int:
    """Write numbered lines, about 100 bytes each, spread evenly over the time given."""
    flags = parse("agnhost logs-generator", argv, FLAGS)
    total, seconds = flags["log-lines-total"] or flags["t"], flags["run-duration"] or flags["d"]
    if total <= 0:
        raise UsageError(f"Invalid total number of lines: {total}")
    if seconds <= 0:
        raise UsageError(f"Invalid duration: {seconds:g}s")
    begun = time.monotonic()
    for number in range(total):
        print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), _line(number), flush=True)
        time.sleep(max(0.0, begun + (number + 1) * seconds / total - time.monotonic()))
    return 0


def _line(number: int) -> str:
    name = "".join(random.choices(string.ascii_lowercase + string.digits, k=random.randint(3, 5)))
    return (f"{number} {random.choice(_METHODS)} /api/v1/namespaces/{random.choice(_NAMESPACES)}/pods/{name} "
            f"{random.randint(200, 599)}")


def entrypoint(argv: list[str]) -> int:  # noqa: ARG001 - the whole command line is what is asked for
    """Print the command line that the container was started with."""
    print(f"[{' '.join(sys.argv)}]", flush=True)
    return 0
