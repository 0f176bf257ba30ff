"""Which object, and which of its fields, a chain, rule or element of nftables mode comes from.

As in iptables mode what kube-proxy would write is worked out anew and matched with what the kernel holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from netlab.errors import NotFound
from netlab.inspect import nft_service, nft_words, sources
from netlab.inspect.nft_world import NftWorld
from netlab.inspect.provenance import Origin
from netlab.inspect.sources import Source
from netlab.inspect.world import Owner
from netlab.netfilter import nft
from netlab.netfilter.nft import NftElement, NftRule, NftTable
from netlab.proxy import nft_names as names
from netlab.proxy.services import ServicePort

CHAINS: Final[Mapping[str, str]] = {
    "services": "it looks each new connection up: by address in @service-ips, by node port in @service-nodeports",
    "masquerading": "it masquerades what was marked, and endpoints that call themselves",
    "nodeport-endpoints-check": "it refuses what comes to node ports of Services without endpoints",
    "service-endpoints-check": "it refuses what comes to addresses of Services without endpoints",
    "firewall-check": "it looks up load balancer addresses that not all sources may use",
    "cluster-ips-check": "it refuses cluster addresses that no port is behind",
    names.REJECT: "it refuses with an ICMP answer what maps send here",
}
SETS: Final[Mapping[str, str]] = {
    names.SERVICE_IPS: "what becomes of each address and port of each Service",
    names.SERVICE_NODEPORTS: "what becomes of each node port",
    names.NO_ENDPOINT_SERVICES: "the addresses that no endpoint is behind",
    names.NO_ENDPOINT_NODEPORTS: "the node ports that no endpoint is behind",
    names.FIREWALL_IPS: "the load balancer addresses that not all sources may use",
    names.CLUSTER_IPS: "the cluster addresses of all Services", names.HAIRPIN: "this node's endpoints, each to itself",
    names.NODEPORT_IPS: "the node's addresses at which node ports are served",
}
_FOREIGN: Final = "foreign: it stands in kube-proxy's table, and no object of the API explains it"
_PURPOSES: Final = {
    "mark": "what comes from outside is marked for masquerade, so that the answer returns through this node",
    "remember": "the client is remembered, so that it comes here again",
    "affinity": "a client that was sent to this endpoint before is sent there again",
    "dice": "one of its endpoints is chosen", "dnat": "the destination becomes the endpoint",
    "drop": "what loadBalancerSourceRanges do not allow is dropped", "goto": "the way from outside to the endpoints",
}


def why(asked: str, table: NftTable, world: NftWorld) -> tuple[Origin, ...]:
    """Return where what was asked for comes from; () when kube-proxy's table has nothing of it.

    Args:
        asked: `CHAIN`, `CHAIN:N`, `@SET`, `@SET:N`, or a piece of a rule's or element's text.
        table: as the node holds it.
        world: what its kube-proxy would write.

    Raises:
        NotFound: the chain or set has no rule or element of that number.
    """
    asked = asked.strip()
    name, colon, digits = asked.rpartition(":")
    number = int(digits) if colon and digits.isdigit() else 0
    if not number or not (name.removeprefix("@") in table.sets or name in table.chains):
        name, number = asked, 0
    short = name.removeprefix("@")
    if name in table.chains:
        count = len(table.chains[name].rules)
        if number > count:
            raise NotFound(f"{name} has no rule {number}", hint=f"its rules: {count}")
        return (of_rule(table, name, number, world) if number else of_chain(table, name, world),)
    if short in table.sets:
        listed = list(table.elements(short).values())
        if number > len(listed):
            raise NotFound(f"@{short} has no element {number}", hint=f"its elements: {len(listed)}")
        return (of_element(table, short, number, listed[number - 1], world) if number else _set(table, short, world),)
    return tuple(_matching(asked, table, world))


def _matching(asked: str, table: NftTable, world: NftWorld) -> Iterator[Origin]:
    said = nft.meaning(asked)
    key = asked.rpartition(":")
    plain = f"{key[0]} . " if key[2].isdigit() else ""  # 10.96.0.10:80 is 10.96.0.10 . tcp . 80 in a map
    for name, each in table.sets.items():
        for number, element in enumerate(each.elements.values(), 1):
            text = _text(element)
            if asked in text or asked in element.comment or (
                    plain and element.key.startswith(plain) and element.key.endswith(f" . {key[2]}")):
                yield of_element(table, name, number, element, world)
    for chain in table.chains.values():
        for number, rule in enumerate(chain.rules, 1):
            spaced = asked.replace(":", " . ") if key[2].isdigit() else asked
            if said in nft.meaning(rule.text) or asked in rule.comment or spaced in rule.text:
                yield of_rule(table, chain.name, number, world)


def of_chain(table: NftTable, name: str, world: NftWorld) -> Origin:
    """Return where a chain comes from."""
    count = len(table.chain(name).rules)
    size = f"{count} rule{'s' if count != 1 else ''}"
    owner = world.owners.get(name)
    if owner is not None:
        here = "" if name in world.table.chains else "; this node's kube-proxy would not have it now"
        return Origin(table.name, name, 0, "former" if here else "kube-proxy", "", size,
                      f"{sources.ROLES[owner.role]} {owner.port.name} {owner.port.protocol}"
                      f"{f', {owner.address}' if owner.address else ''}{here}", tuple(_of_owner(world, owner)))
    hook = table.chain(name).hook
    if name in world.table.chains:
        said = CHAINS.get(name) or f"packets enter the table by it, at the hook {hook}"
        return Origin(table.name, name, 0, "kube-proxy", "", size, f"every kube-proxy has it: {said}")
    port = nft_service.port_of(name)[0]
    if port:
        return Origin(table.name, name, 0, "former", "", size, f"left from {port}: no object asks for it any more")
    return Origin(table.name, name, 0, "foreign", "", size, _FOREIGN)


def of_rule(table: NftTable, name: str, number: int, world: NftWorld) -> Origin:
    """Return where a rule comes from; `number` counts from 1."""
    rule = table.chain(name).rules[number - 1]
    wanted = {nft.meaning(each.text) for each in world.table.chain(name).rules}
    said = nft_words.explain(rule.text)
    owner = world.owners.get(name)
    if nft.meaning(rule.text) not in wanted:
        about = f"of {owner.port.name}" if owner else ""
        maker = "former" if owner else "foreign"
        return Origin(table.name, name, number, maker, rule.line, said,
                      f"no object asks for it as it is: left from an earlier state {about}, or changed by hand" if owner
                      else _FOREIGN,
                      tuple(_of_owner(world, owner)) if owner else ())
    if owner is None:
        return Origin(table.name, name, number, "kube-proxy", rule.line, said,
                      "every kube-proxy writes it, whatever the Services", _settings(rule))
    purpose, found = _of_rule(rule, owner, world)
    return Origin(table.name, name, number, "kube-proxy", rule.line, said,
                  f"kube-proxy wrote it for {owner.port.name} {owner.port.protocol}: {purpose}", tuple(found))


def _settings(rule: NftRule) -> tuple[Source, ...]:
    fields = []
    if "mark" in rule.text:
        fields.append("nftables.masqueradeBit")
    if f"@{names.CLUSTER_IPS}" in rule.text and "mark" in rule.text:
        fields += ["clusterCIDR", "detectLocalMode"] if "!=" in rule.text else ["nftables.masqueradeAll"]
    if f"@{names.NODEPORT_IPS}" in rule.text or "fib daddr" in rule.text:
        fields.append("nodePortAddresses")
    found = (Source("KubeProxyConfiguration", "", tuple(fields)),) if fields else ()
    if rule.chain == "cluster-ips-check" and "drop" in rule.text:
        found = (*found, Source("ServiceCIDR", "", ("spec.cidrs",)))
    return found


def _of_rule(rule: NftRule, owner: Owner, world: NftWorld) -> tuple[str, list[Source]]:
    port = owner.port
    index = sources.port_field(world, port)
    text = rule.text
    if owner.role == "endpoint":
        kind, fields = ("remember", ["spec.sessionAffinity"]) if text.startswith("update") else (
            "dnat", [f"{index}.targetPort"])
        return _PURPOSES[kind], [sources.of_service(world, port, fields), *_slices(world, port, owner.address)]
    if owner.role == "firewall":
        return _PURPOSES["drop"], [sources.of_service(world, port, ["spec.loadBalancerSourceRanges"])]
    if owner.role == "external":
        kind = "mark" if "mark set" in text else "goto"
        return _PURPOSES[kind], [sources.of_service(world, port, ["spec.externalTrafficPolicy"])]
    if "@affinity-" in text:
        fields = ["spec.sessionAffinity", "spec.sessionAffinityConfig.clientIP.timeoutSeconds"]
        address = nft_service.address_of(rule.targets[0]) if rule.targets else ""
        return _PURPOSES["affinity"], [sources.of_service(world, port, fields), *_slices(world, port, address)]
    found = [sources.of_service(world, port, [f"{index}.name", f"{index}.targetPort", "spec.selector"])]
    for name, _ in nft.dice(text):
        found += _slices(world, port, nft_service.address_of(name) or nft.joined(name))
    return _PURPOSES["dice"], _grouped(found)


def _grouped(found: list[Source]) -> list[Source]:
    """Tell each object once, with all its fields."""
    by_object: dict[str, Source] = {}
    for each in found:
        old = by_object.get(each.object)
        by_object[each.object] = each if old is None else Source(
            each.object, each.revision, tuple(dict.fromkeys((*old.fields, *each.fields))),
            ", ".join(dict.fromkeys(filter(None, (old.note, each.note)))), each.since)
    return list(by_object.values())


def _slices(world: NftWorld, port: ServicePort, address: str) -> list[Source]:
    return list(sources.of_slices(world.places.get((port.name, port.protocol, address), ())))


def _of_owner(world: NftWorld, owner: Owner) -> Iterator[Source]:
    port = owner.port
    index = sources.port_field(world, port)
    fields = ["metadata.namespace", "metadata.name", f"{index}.name", f"{index}.protocol"]
    fields += {"local": ["spec.internalTrafficPolicy", "spec.externalTrafficPolicy"],
               "external": ["spec.type", f"{index}.nodePort", "spec.externalIPs", "status.loadBalancer.ingress"],
               "firewall": ["spec.loadBalancerSourceRanges"]}.get(owner.role, [])
    yield sources.of_service(world, port, fields)
    if owner.role == "endpoint":
        yield from _slices(world, port, owner.address)
    elif owner.role in ("cluster", "local"):
        yield from sources.of_slices(world.port_of(port))


def of_element(table: NftTable, name: str, number: int, element: NftElement, world: NftWorld) -> Origin:
    """Return where an element of a set or map comes from; `number` counts from 1 as it is listed."""
    said = nft_words.element(name, element)
    if name.startswith("affinity-"):
        owner = world.owners.get(name)
        return Origin(table.name, f"@{name}", number, "kernel", element.key, said,
                      "the kernel remembers it by itself, from the client's last connection to this endpoint",
                      tuple(_of_owner(world, owner)) if owner else ())
    found = world.elements.get((name, element.key), ())
    wanted = world.table.elements(name).get(element.key)
    if wanted is None and name == names.NODEPORT_IPS:
        found = ()
    if wanted is None or wanted.value != element.value:
        about = nft_service.owner_of(name, element)[0]
        return Origin(table.name, f"@{name}", number, "former" if about or found else "foreign", _text(element), said,
                      f"no object asks for it as it is: left from {about or 'an earlier state'}, or put there by hand")
    listed = [sources.of_service(world, port, tuple(_fields(name, element, port, world)), _note(name, element, port))
              for port in found]
    if found and name in (names.NO_ENDPOINT_SERVICES, names.NO_ENDPOINT_NODEPORTS):
        listed += sources.of_unready(world, found[0])
    if found and name == names.HAIRPIN:
        *_, ip, _, end = element.key.split(" . ")
        listed += [each for port in found for each in _slices(world, port, nft.joined(f"{ip} . {end}"))]
    if name == names.NODEPORT_IPS:
        listed = [Source("KubeProxyConfiguration", "", ("nodePortAddresses",))]
        if world.node is not None:
            listed.append(Source(f"Node {world.node['metadata']['name']}",
                                 str(world.node["metadata"].get("resourceVersion", "")), ("status.addresses",)))
    who = ", ".join(f"{port.name} {port.protocol}" for port in found) or "this node"
    return Origin(table.name, f"@{name}", number, "kube-proxy", _text(element), said,
                  f"kube-proxy wrote it for {who}: {SETS.get(name, '')}".rstrip(": "), tuple(listed))


def _text(element: NftElement) -> str:
    return f"{element.key} : {element.value}" if element.value else element.key


def _note(name: str, element: NftElement, port: ServicePort) -> str:
    to = element.key.split(" . ")[0]
    if name in (names.SERVICE_NODEPORTS, names.NO_ENDPOINT_NODEPORTS):
        return f"node port {port.node_port}"
    return sources.address_field(to, port)[0] if name not in (names.HAIRPIN, names.CLUSTER_IPS) else ""


def _fields(name: str, element: NftElement, port: ServicePort, world: NftWorld) -> Iterator[str]:
    index = sources.port_field(world, port)
    if name in (names.SERVICE_NODEPORTS, names.NO_ENDPOINT_NODEPORTS):
        yield f"{index}.nodePort"
    elif name == names.HAIRPIN:
        yield f"{index}.targetPort"
        return
    elif name == names.CLUSTER_IPS:
        yield "spec.clusterIP"
        return
    else:
        yield sources.address_field(element.key.split(" . ")[0], port)[1] or "spec.clusterIP"
        yield f"{index}.port"
    yield f"{index}.protocol"
    if name == names.FIREWALL_IPS:
        yield "spec.loadBalancerSourceRanges"
    if element.target.startswith("local-"):
        yield "spec.internalTrafficPolicy"


def _set(table: NftTable, name: str, world: NftWorld) -> Origin:
    count = len(table.elements(name))
    size = f"{count} element{'s' if count != 1 else ''}"
    owner = world.owners.get(name)
    if name in SETS and name in world.table.sets:
        return Origin(table.name, f"@{name}", 0, "kube-proxy", "", size, f"every kube-proxy has it: {SETS[name]}")
    if owner is not None and name in world.table.sets:
        return Origin(table.name, f"@{name}", 0, "kube-proxy", "", size,
                      f"kube-proxy made it to remember the clients of {owner.address}, endpoint of {owner.port.name}",
                      (sources.of_service(world, owner.port, ("spec.sessionAffinity",)),
                       *_slices(world, owner.port, owner.address)))
    return Origin(table.name, f"@{name}", 0, "former" if nft_service.port_of(name)[0] else "foreign", "", size,
                  "no object of the API asks for it")
