"""nftables: run commands through libnftables, arm the tracer, and put rule text to the handles that traces speak of.

libnftables by ctypes costs 1.2 ms where two `nft` processes cost 20; it comes with the nft package. The tracer's
table has the flag `owner`: it belongs to the socket that made it, and the kernel removes it when that socket closes,
so a killed tracer leaves nothing behind (nft(8), table flags; Linux 5.12).
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import re
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from netlab.errors import KernelError, Unsupported
from netlab.kernel import nfnetlink
from netlab.kernel.netns import inside

TRACE_TABLES: Final = "netlab-trace"
"""What the names of all tracers' tables begin with."""

TRACE_TABLE: Final = f"{TRACE_TABLES}-{os.urandom(4).hex()}"
"""This process' own: several may trace at the same time."""

HANDLES: Final = 1 << 3
NFT_MSG_GETCHAIN: Final = 4
NFT_MSG_GETRULE: Final = 7
NFT_MSG_GETGEN: Final = 16

_HOOKS: Final = {"pre": "prerouting", "in": "input", "fwd": "forward", "out": "output", "post": "postrouting"}
_library: list[ctypes.CDLL] = []
_counting = threading.Lock()  # libnftables counts its contexts in a plain int
_naming = threading.Lock()
"""libnftables names protocols by getprotobynumber(3) and getprotobyname(3), which have one buffer for all threads: one
that lists rules while another does reads udp where tcp is, or the other way round."""


class Nft:
    """A libnftables context that belongs to one network namespace for good."""

    def __init__(self, netns: int) -> None:
        """Open the context.

        Raises:
            Unsupported: libnftables is not installed.
        """
        lib = _load()
        with _counting, inside(netns):
            self._context = lib.nft_ctx_new(0)
        if not self._context:
            raise KernelError("libnftables gave no context: no memory, or no nf_tables in this kernel")
        lib.nft_ctx_buffer_output(self._context)
        lib.nft_ctx_buffer_error(self._context)
        self._lib = lib

    def run(self, commands: str, *, flags: int = 0) -> str:
        """Run nft commands as one transaction and return what they print; one thread after the other.

        Raises:
            KernelError: nft's own words.
        """
        with _naming:
            return self.run_nameless(commands, flags=flags)

    def run_nameless(self, commands: str, *, flags: int = 0) -> str:
        """Run commands that print nothing and name no protocol, at the same time as others: the kernel may take 10 ms.

        Raises:
            KernelError: nft's own words.
        """
        self._lib.nft_ctx_output_set_flags(self._context, flags)
        failed = self._lib.nft_run_cmd_from_buffer(self._context, commands.encode())
        output = (self._lib.nft_ctx_get_output_buffer(self._context) or b"").decode(errors="replace")
        error = (self._lib.nft_ctx_get_error_buffer(self._context) or b"").decode(errors="replace")
        if failed:
            raise KernelError(f"nft: {error.strip().splitlines()[0] if error.strip() else 'failed'}")
        return str(output)

    def close(self) -> None:
        """Free the context and its socket; tables it owns go with it."""
        with _counting:
            self.free()

    def free(self) -> None:
        """Free the context without a look at the others: `close` and `close_all` take care of them."""
        if self._context:
            self._lib.nft_ctx_free(self._context)
            self._context = None


def _load() -> ctypes.CDLL:
    if not _library:
        name = ctypes.util.find_library("nftables") or "libnftables.so.1"
        try:
            lib = ctypes.CDLL(name)
        except OSError:
            raise Unsupported("libnftables is not installed", hint="apt-get install nftables") from None
        lib.nft_ctx_new.restype = ctypes.c_void_p
        lib.nft_ctx_get_output_buffer.restype = lib.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        for function, arguments in {
            "nft_ctx_free": [ctypes.c_void_p], "nft_ctx_buffer_output": [ctypes.c_void_p],
            "nft_ctx_buffer_error": [ctypes.c_void_p], "nft_ctx_get_output_buffer": [ctypes.c_void_p],
            "nft_ctx_get_error_buffer": [ctypes.c_void_p],
            "nft_ctx_output_set_flags": [ctypes.c_void_p, ctypes.c_uint],
            "nft_run_cmd_from_buffer": [ctypes.c_void_p, ctypes.c_char_p],
        }.items():
            getattr(lib, function).argtypes = arguments
        _library.append(lib)
    return _library[0]


def arm(netns: int, *matches: str) -> Nft:
    """Have every packet of this namespace that fits one of `matches` traced until the returned context is closed.

    A private table sets nf_trace as early as can be, which iptables-legacy's TRACE code honours too; nothing appears
    in the user's tables. An empty chain at either end of every hook makes the kernel say that a packet came by, with
    its headers, even where nobody has a rule: so a trace shows the routing decision and what NAT did.

    Args:
        matches: nft match expressions, such as `meta l4proto 6`, without a verdict; protocols by number.
    """
    rules = "\n".join(f"{match} meta nftrace set 1" for match in matches)
    chains = []
    for short, hook in _HOOKS.items():
        first = rules if short in ("pre", "out") else ""
        chains.append(f"chain {short}0 {{ type filter hook {hook} priority -450; policy accept;\n{first}\n}}")
        chains.append(f"chain {short}9 {{ type filter hook {hook} priority 450; policy accept;\n}}")
    nft = Nft(netns)
    try:
        nft.run_nameless(f"table inet {TRACE_TABLE} {{ flags owner;\n" + "\n".join(chains) + "\n}")
    except BaseException:
        nft.close()
        raise
    return nft


@contextmanager
def armed(netns: int, *matches: str) -> Iterator[None]:
    """Arm a namespace while the body runs."""
    nft = arm(netns, *matches)
    try:
        yield
    finally:
        nft.close()


def close_all(contexts: Sequence[Nft]) -> None:
    """Close many contexts at once: the kernel waits 10 ms for each table that goes, and may wait for all together."""
    with _counting, ThreadPoolExecutor(max(min(len(contexts), 32), 1)) as pool:
        list(pool.map(Nft.free, contexts))  # counting down in parallel can only count too few, which frees nothing


def generation(netns: int) -> int:
    """Return the rule set's generation: it changes with every committed transaction."""
    with inside(netns):
        sock = nfnetlink.open_socket()
    with sock:
        sock.setblocking(True)
        sock.send(nfnetlink.request(nfnetlink.SUBSYS_NFTABLES, NFT_MSG_GETGEN))
        for _, _, _, payload in nfnetlink.messages(sock.recv(1 << 16)):
            found = dict(nfnetlink.attributes(payload[4:]))
            return int.from_bytes(found.get(1, b""), "big")
    return 0


def rule_handles(netns: int, family: int) -> dict[tuple[str, str], list[int]]:
    """Return the handles of all rules of a family (AF_INET, ...), in the order of their chain, by (table, chain)."""
    with inside(netns):
        sock = nfnetlink.open_socket()
    handles: dict[tuple[str, str], list[int]] = {}
    with sock:
        for body in nfnetlink.dump(sock, nfnetlink.SUBSYS_NFTABLES, NFT_MSG_GETRULE, family=family):
            found = dict(nfnetlink.attributes(body))
            place = found[1].rstrip(b"\0").decode(), found[2].rstrip(b"\0").decode()
            handles.setdefault(place, []).append(struct.unpack("!Q", found[3])[0])
    return handles


FAMILIES: Final = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"}
"""nftables' families by NFPROTO_*; in the kernel's messages by this number."""

_HOOK_NAMES: Final = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")
_RULE = re.compile(r"^\s*(.+?) # handle (\d+)$")


def base_chains(netns: int) -> dict[tuple[str, str], str]:
    """Return the hook of each base chain, by (table, chain), of all families that have IP's hooks."""
    found: dict[tuple[str, str], str] = {}
    with inside(netns):
        sock = nfnetlink.open_socket(buffer=4 << 20)
    with sock:
        for family in (1, 2, 7, 10):
            for body in nfnetlink.dump(sock, nfnetlink.SUBSYS_NFTABLES, NFT_MSG_GETCHAIN, family=family):
                chain = dict(nfnetlink.attributes(body))
                if 4 in chain:  # NFTA_CHAIN_HOOK
                    number = int.from_bytes(dict(nfnetlink.attributes(chain[4])).get(1, b""), "big")
                    if number < len(_HOOK_NAMES):
                        found[_text(chain[1]), _text(chain[3])] = _HOOK_NAMES[number]
    return found


def chain_rules(netns: int, family: int, table: str, chain: str) -> dict[int, str]:
    """Return nft's own words for the rules of one chain, by handle; nothing when it is gone.

    (libnftables cannot say iptables' own extensions, and complains about each on standard error.)
    """
    nft = Nft(netns)
    try:
        listing = nft.run(f"list chain {FAMILIES.get(family, 'inet')} {table} {chain}", flags=HANDLES)
    except KernelError:
        return {}
    finally:
        nft.close()
    return {int(found[2]): found[1] for line in listing.splitlines() if (found := _RULE.match(line))}


def element(netns: int, family: int, table: str, name: str, key: str) -> str:
    """Return the element of a set or map that a key falls into, as nft prints it; "" when there is none."""
    nft = Nft(netns)
    try:
        listing = nft.run(f"get element {FAMILIES.get(family, 'inet')} {table} {name} {{ {key} }}")
    except KernelError:
        return ""
    finally:
        nft.close()
    found = re.search(r"elements = \{(.*?)\}", listing, re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def _text(raw: bytes) -> str:
    return raw.rstrip(b"\0").decode(errors="replace")


def saved(netns: int, tool: str) -> str:
    """Return the output of an iptables-save tool (`iptables-nft-save`, `ip6tables-legacy-save`, ...) in a namespace.

    An absent tool, or a kernel without that backend, gives "".
    """
    with inside(netns):
        try:
            done = subprocess.run([tool], capture_output=True, text=True, timeout=60, check=False,
                                  env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"})
        except FileNotFoundError:
            return ""
    return done.stdout if done.returncode == 0 else ""
