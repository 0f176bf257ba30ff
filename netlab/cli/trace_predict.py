"""`netlab trace --predict`: by a lab's state, by saved rules, or by a cluster's objects; and what a change would do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from netlab.api.meta import Object
    from netlab.lab.predicting import Change, Foretold
    from netlab.netfilter.model import Ruleset
    from netlab.netfilter.nft import NftTable

F = TypeVar("F", bound=Callable[..., Any])
_FILES = ("-f", "--filename")


class WithChange(click.Command):
    """A command whose `-f` behind `--if` names manifests of a change, and behind `--delete` those of a deletion."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line."""
        given, instead = [], ""
        for word in args:
            if word == "--if":
                instead = "--change"
            elif word == "--delete" and instead:
                instead = "--removal"
                continue
            elif instead and word in _FILES:
                word = instead
            elif instead and word.startswith("--filename="):
                word = f"{instead}={word.partition('=')[2]}"
            elif instead and word.startswith("-f") and word[2:]:
                word = f"{instead}={word[2:]}"
            given.append(word)
        return super().parse_args(ctx, given)


def options(function: F) -> F:
    """Add the options of predictions."""
    rows: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = (
        (("--predict/--no-predict",), {"default": None, "help": "Predict only and send nothing; or do not lay a "
                                       "prediction beside the trace. Else both are done."}),
        (("--rules",), {"metavar": "FILE", "default": "",
                        "help": "Predict by the iptables-save text of some machine, or by what nft list ruleset prints "
                        "there, -j or not; - for standard input; no lab."}),
        (("--routes",), {"metavar": "FILE", "default": "", "help": "With --rules: what `ip route` prints there."}),
        (("--ipset",), {"metavar": "FILE", "default": "", "help": "With --rules: what `ipset save` prints there."}),
        (("--address", "addresses"), {"metavar": "IP", "multiple": True,
                                      "help": "With --rules: an address of that machine's own. Repeatable."}),
        (("--from", "from_"), {"metavar": "IP", "default": "", "help": "With --rules: where the packet comes from."}),
        (("--in-interface",), {"metavar": "NAME", "default": "",
                               "help": "With --rules: the interface that it comes in by; - for the machine's own."}),
        (("--mark",), {"metavar": "N", "default": "0", "help": "With --rules: the mark that the packet carries."}),
        (("-f", "--filename", "files"), {
            "metavar": "FILE", "multiple": True, "help": "Predict by a cluster's objects, as from kubectl get "
            "svc,endpointslices,nodes,pods -A -o yaml; no lab. Behind --if: manifests of a change."}),
        (("--cluster-cidr",), {"metavar": "CIDR", "default": "", "help": "With -f: the cluster's Pod range."}),
        (("--proxy-mode",), {"type": click.Choice(["iptables", "nftables"]), "default": None,
                             "help": "With -f: kube-proxy's mode; iptables is the default."}),
        (("--if", "if_"), {"is_flag": True, "help": "What if the manifests of the -f that follow were applied? Those "
                           "behind --delete: deleted. Nothing is touched."}),
        (("--change", "changes"), {"multiple": True, "hidden": True}),
        (("--removal", "removals"), {"multiple": True, "hidden": True}),
        (("--at",), {"metavar": "REVISION", "default": "",
                     "help": "Predict by the rules, routes, links and settings of this resourceVersion."}),
        (("--ways",), {"metavar": "N", "type": click.IntRange(1, 256), "default": 1, "show_default": True,
                       "help": "Predictions: show so many ways whole, where rules throw dice."}))
    for names, more in reversed(rows):
        function = click.option(*names, **more)(function)
    return function


@dataclass(frozen=True)
class Asked:
    """What is to be predicted. `source` "" where a file's `--from` says it."""

    source: str
    target: str
    protocol: str
    source_address: str
    ipv6: bool
    more: Mapping[str, Any]


def asked(ends: Sequence[str], more: Mapping[str, Any], *, predict: bool | None, protocol: str, source_address: str,
          ipv6: bool = False) -> Asked | None:
    """Return what is to be predicted; None when a packet is to be sent.

    Raises:
        UsageError: options that do not go together.
    """
    from netlab.errors import UsageError

    offline = [name for name in ("rules", "files") if more[name]]
    if not predict and not offline and not more["if_"] and not more["at"]:
        return None
    if predict is False:
        raise UsageError("--no-predict does not go with options of a prediction")
    if len(offline) > 1:
        raise UsageError("--rules and -f are two different worlds: choose one")
    if more["if_"] and not (more["changes"] or more["removals"]):
        raise UsageError("--if needs a change", hint="netlab trace pod/client svc/web --if -f change.yaml")
    if more["rules"]:
        if more["if_"] or more["at"]:
            raise UsageError("saved rules have neither objects nor a past: --if and --at need a lab or -f")
        if len(ends) == 1 + (not more["from_"]):
            return Asked(more["from_"] or ends[0], ends[-1], protocol, "", ipv6, more)
        raise UsageError("want --from IP and a destination",
                         hint="netlab trace --predict --rules FILE --from 10.244.1.9 10.96.0.10:80")
    if more["from_"] or more["routes"] or more["ipset"] or more["addresses"] or more["in_interface"]:
        raise UsageError("--from, --routes, --ipset, --address and --in-interface go with --rules")
    if more["proxy_mode"] and not more["files"]:
        raise UsageError("--proxy-mode goes with -f: rules that are there say by themselves what they are")
    if more["files"] and more["at"]:
        raise UsageError("files have no past: --at needs a lab")
    if len(ends) != 2:
        raise UsageError("want FROM and TO", hint="netlab trace --predict pod/client svc/web")
    return Asked(ends[0], ends[1], protocol, source_address, ipv6, more)


def run(wish: Asked, *, name: str, output: str, color: bool) -> int:
    """Predict and print. Returns 1 when the likeliest way ends badly."""
    from netlab.cli.output import emit
    from netlab.trace import foretell
    from netlab.trace.verdict import GOOD

    told = _by_rules(wish) if wish.more["rules"] else _by_files(wish) if wish.more["files"] else _by_lab(wish, name)
    if told.then is not None:
        if output:
            emit(foretell.beside_json(told.now, told.then), output)
        else:
            click.echo(foretell.beside(told.now, told.then, color=color))
    elif output:
        emit(foretell.as_json(told.now), output)
    else:
        click.echo(foretell.as_text(told.now, color=color, ways=wish.more["ways"], links=told.links))
    shown = told.then or told.now
    return 0 if shown.branches and shown.branches[0].outcome.status in (*GOOD, "sent") else 1


def _by_lab(wish: Asked, name: str) -> Foretold:
    import asyncio

    from netlab.errors import UsageError
    from netlab.lab import predicting, state
    from netlab.lab.tracing import Wish

    if wish.more["at"] and not wish.more["at"].isdigit():
        raise UsageError(f"--at {wish.more['at']}: a resourceVersion is a number")
    packet = Wish(wish.source, wish.target, wish.protocol,  # type: ignore[arg-type]
                  source_address=wish.source_address, ipv6=wish.ipv6)
    return asyncio.run(predicting.foretell(state.find(name), packet, _change(wish), revision=wish.more["at"]))


def _change(wish: Asked) -> Change:
    from netlab.lab.predicting import Change

    return Change(tuple(_read(wish.more["changes"])), tuple(_read(wish.more["removals"])))


def _read(files: Sequence[str]) -> list[Object]:
    from netlab.inspect.files import read

    return [each for file in files for each in read(file)]


def _by_files(wish: Asked) -> Foretold:
    from netlab.inspect import whatif
    from netlab.lab.predicting import Foretold
    from netlab.trace import assume
    from netlab.trace.branch import Prediction, Question
    from netlab.trace.predict import predict
    from netlab.trace.target import resolve

    objects = _read(wish.more["files"])
    change = _change(wish)
    after = whatif.applied(objects, change.apply, change.delete) if change else None
    target = resolve(wish.target, assume.known(after.objects if after else objects), protocol=wish.protocol,
                     ipv6=wish.ipv6)
    family = 6 if ":" in target.address else 4
    source = _place(wish.source, objects)

    def told(of: Sequence[Object], notes: Sequence[str] = ()) -> Prediction:
        world = assume.world(of, lambda node: _rules(of, node, family, wish.more), family=family)
        protocol = "icmpv6" if wish.protocol == "icmp" and family == 6 else wish.protocol
        question = Question(source, target.address, target.port, protocol, wish.source_address)
        found = predict(world, question, target=target.label)
        return Prediction(found.question, found.target, found.branches, found.left, (*found.notes, *notes))

    return Foretold(told(objects), told(after.objects, after.notes) if after else None, {})


def _rules(objects: Sequence[Object], node: str, family: int, more: Mapping[str, Any]) -> Ruleset | NftTable:
    from netlab.inspect import offline
    from netlab.netfilter import nft
    from netlab.trace import assume

    cidr = more["cluster_cidr"] or assume.cluster_cidr(objects, family)
    flags = [f"--hostname-override={node}", *([f"--cluster-cidr={cidr}"] if cidr else [])]
    if more["proxy_mode"] == "nftables":
        return nft.parse(offline.render_nft(objects, flags, family="IPv6" if family == 6 else "IPv4").text)[0]
    return offline.render(objects, flags, family="IPv6" if family == 6 else "IPv4").rules


def _place(text: str, objects: Sequence[Object]) -> str:
    """Return the place that FROM means among the objects: a Pod on its node's network is its node."""
    from netlab.errors import NotFound, UsageError

    kind, _, rest = text.partition("/")
    if text in ("outside", "network"):
        return text
    if kind in ("node", "no", "nodes") and rest:
        return f"node/{rest}"
    if kind in ("pod", "po", "pods") and rest and rest.count("/") <= 1:
        key = rest if "/" in rest else f"default/{rest}"
        for each in objects:
            meta = each["metadata"]
            if each.get("kind") == "Pod" and f"{meta.get('namespace', 'default')}/{meta['name']}" == key:
                spec = each.get("spec") or {}
                return f"node/{spec.get('nodeName', '')}" if spec.get("hostNetwork") else f"pod/{key}"
        raise NotFound(f"the files hold no Pod {key}")
    if "/" not in text:  # as in kubectl exec
        mine = [f"{each['kind'].lower()}/{text}" for each in objects if each.get("kind") in ("Pod", "Node")
                and each["metadata"]["name"] == text and each["metadata"].get("namespace", "default") == "default"]
        if len(mine) == 1:
            return _place(mine[0], objects)
    raise UsageError(f'"{text}" is no place', hint="a place is node/NAME, pod/NAME, pod/NAMESPACE/NAME or outside")


def _by_rules(wish: Asked) -> Foretold:
    import ipaddress

    from netlab.errors import UsageError
    from netlab.lab.predicting import Foretold
    from netlab.netfilter import ipsets
    from netlab.trace import machine
    from netlab.trace.branch import Question
    from netlab.trace.packet import join
    from netlab.trace.predict import predict
    from netlab.trace.target import Objects, resolve

    more = wish.more
    try:
        source = str(ipaddress.ip_address(wish.source))
    except ValueError:
        raise UsageError(f"--from {wish.source}: with --rules a packet comes from an IP address") from None
    try:
        mark = int(more["mark"], 0)
    except ValueError:
        raise UsageError(f"--mark {more['mark']}: want a number such as 0x4000") from None
    target = resolve(wish.target, Objects(), protocol=wish.protocol)
    if not target.port and wish.protocol != "icmp":
        raise UsageError(f"{wish.target}: which port?", hint=f"write {join(target.address, 80)}")
    if (":" in source) != (":" in target.address):
        raise UsageError(f"{source} and {target.address} are not of one family")
    routes = _text(more["routes"]) if more["routes"] else None
    interface = more["in_interface"]
    world = machine.world(_text(more["rules"]), routes=routes, file=more["routes"], addresses=more["addresses"],
                          interface="" if interface == "-" else interface,
                          sets=ipsets.parse(_text(more["ipset"]), more["ipset"]) if more["ipset"] else None)
    if not interface and not world.spaces[machine.PLACE].local(source):
        interface = machine.interface_of(world, source)
    protocol = "icmpv6" if wish.protocol == "icmp" and ":" in source else wish.protocol
    question = Question(machine.PLACE, target.address, target.port, protocol, source,
                        interface="" if interface == "-" else interface, mark=mark)
    return Foretold(predict(world, question, target=target.label), None, {})


def _text(name: str) -> str:
    from netlab.errors import NotFound, UsageError

    try:
        with click.open_file(name, encoding="utf-8") as file:
            text: str = file.read()
    except OSError as error:
        raise NotFound(f"cannot read {Path(name)}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is no text") from None
    return text
