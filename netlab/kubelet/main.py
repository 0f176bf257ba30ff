"""kubelet: start with flags and a KubeletConfiguration, run until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import sys

from netlab import daemon, flags, klog
from netlab.errors import UsageError
from netlab.kubelet import config
from netlab.kubelet.kubelet import Kubelet
from netlab.kubelet.server import Server

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Run the kubelet; the exit code."""
    if "--help" in argv or "-h" in argv:
        sys.stdout.write(flags.usage("kubelet", "The kubelet runs the Pods of one node.", config.FLAGS))
        return 0
    try:
        parsed = flags.parse("kubelet", argv, config.FLAGS)
    except UsageError as error:
        sys.stderr.write(f"kubelet: {error}\n")
        return 1
    klog.setup(verbosity=parsed["v"])

    async def run(stop: asyncio.Event) -> None:
        kubelet = Kubelet(config.load(parsed))
        server = Server(kubelet)
        await server.start()
        try:
            await kubelet.run(stop)
        finally:
            await server.close()

    return daemon.run(run)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
