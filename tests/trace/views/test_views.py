"""One trace in every format: well formed, complete, and safe whatever stands in it."""

from __future__ import annotations

import dataclasses
import html.parser
import itertools
import json
import re
import shutil
import struct
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import pytest

from netlab.errors import ManifestError, UsageError
from netlab.trace import saved
from netlab.trace.document import as_json
from netlab.trace.event import Crossing, Entry, Hop, Outcome, Part, Passage, RouteUsed, Trace
from netlab.trace.packet import Packet, parse
from netlab.trace.views import Subject, format_of, render
from netlab.trace.views.way import stays

SYN = bytes.fromhex("4500003c1c4640004006b1e60af4010a0a60000ab32000501234567800000000a002faf000000000020405b40402080a0000000000000000"
                    "01030307")
AT = 1_700_000_000_123_456_789
EVIL = "</title><script>alert(1)</script>\x00\x07 \"'&;#{x}`\n%% end ]]>"


def subject(evil: str = "kubernetes service portals", *, died: bool = False) -> Subject:
    packet = parse(SYN)
    assert packet is not None
    after = dataclasses.replace(packet, destination="10.244.2.3", dport=8080)
    back = Packet(2, 6, "10.244.2.3", "10.244.1.10", 8080, 45856, flags=18, ttl=63, length=40)
    pod, node = "pod/default/client", "node/w1"

    def iface(n: int, place: str, name: str, way: str, what: Packet, direction: str = "request") -> Hop:
        return Hop(AT + n * 1001, place, direction, "iface", f"{way} {name}", what, interface=name, way=way)

    hops = [iface(0, pod, "eth0", "out", packet), iface(3, node, "veth1", "in", packet),
            Hop(None, node, "request", "rule", f"-m comment --comment x -j {evil}", packet, table="nat", chain="PREROUTING",
                rule="-j KUBE-SERVICES", comment=evil, verdict="JUMP", target="KUBE-SERVICES"),
            Hop(None, node, "request", "nat", "DNAT 10.96.0.10:80 → 10.244.2.3:8080", after, rule="-j DNAT", verdict="DNAT"),
            Hop(None, node, "request", "conntrack", "entry", after, entry=Entry("tcp", "a:1", "b:2", "c:3", "d:4")),
            Hop(None, node, "request", "policy", "policy ACCEPT", after, table="filter", chain="FORWARD", verdict="ACCEPT"),
            Hop(None, node, "request", "route", "forwarded to cni0", after, interface="cni0",
                route=RouteUsed("unicast", "main", "10.244.2.0/24", "", "cni0", "10.244.2.3", "reachable", "aa:bb"))]
    if died:
        hops.append(Hop(None, node, "request", "drop", f"dropped {evil}", after, reason="NETFILTER_DROP", function="nft_do_chain"))
        outcome = Outcome("timeout", "10.244.2.3:8080", "", node, f"dropped by {evil}", "take it away", reason="NETFILTER_DROP")
    else:
        hops += [iface(9, node, "veth2", "out", after), iface(10, "pod/default/web", "eth0", "in", after),
                 Hop(None, "pod/default/web", "request", "deliver", "arrived", after)]
        outcome = Outcome("connected", "10.244.2.3:8080", "pod/default/web", seconds=0.0005, answer=evil)
    reply = [] if died else [iface(20, "pod/default/web", "eth0", "out", back, "reply")]
    passages = [Passage(AT, "request", "SYN", crossed=tuple(
        Crossing(hop.at or 0, hop.place, hop.interface, hop.way or "in", hop.packet, SYN) for hop in hops if hop.kind == "iface"))]
    trace = Trace(pod, "svc/web", "tcp", "10.96.0.10:80", tuple(hops), tuple(reply), outcome, tuple(passages), lost=2,
                  warnings=(evil,))
    part = Part("resolution", f"web A {evil}", dataclasses.replace(trace, protocol="udp"))
    return Subject(dataclasses.replace(trace, parts=(part,)), {pod: "w1", "pod/default/web": "w1"},
                   {f"{node} veth1": pod, f"{node} unused": "x"})


@pytest.mark.parametrize("died", [False, True])
def test_json_holds_to_its_schema_and_reads_back_the_same(died: bool) -> None:
    schema = json.loads((Path(saved.__file__).parent.parent / "docs" / "trace.schema.json").read_text())
    text = render(subject(EVIL, died=died), "json")
    jsonschema.Draft202012Validator(schema).validate(json.loads(text))
    again = saved.read(text, "x.json")
    assert json.loads(text) == as_json(again.trace, again.nodes, again.links)


def test_what_was_saved_is_rendered_as_if_it_were_fresh() -> None:
    fresh = subject()
    again = saved.read(render(fresh, "json"), "x.json")
    for form in ("text", "svg", "html", "mermaid", "pcapng", "yaml"):
        assert render(again, form) == render(fresh, form), form


@pytest.mark.parametrize(("change", "field"), [
    pytest.param({"schema": "netlab.trace/v0"}, "schema", id="another version"),
    pytest.param({"hops": 3}, "hops", id="not a list"),
    pytest.param({"hops": [{"place": "x"}]}, "hops[0].direction", id="a missing field"),
    pytest.param({"packets": [{"direction": "up", "what": ""}]}, "packets[0].direction", id="a wrong word"),
    pytest.param({"outcome": {"status": "connected", "ms": "soon"}}, "outcome.ms", id="a text for a number"),
    pytest.param({"lost": True}, "lost", id="true for a number"),
])
def test_a_wrong_field_is_named(change: dict, field: str) -> None:
    value = {**json.loads(render(subject(), "json")), **change}
    with pytest.raises(ManifestError, match=re.escape(f"x.json: {field}:")):
        saved.read(json.dumps(value), "x.json")


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "\xff", "null"])
def test_what_is_no_trace_at_all(text: str) -> None:
    with pytest.raises(ManifestError, match=r"x\.json"):
        saved.read(text.encode("latin-1"), "x.json")


@pytest.mark.parametrize("evil", ["kubernetes service portals", EVIL])
@pytest.mark.parametrize("died", [False, True])
def test_svg_is_well_formed_and_has_every_step(evil: str, died: bool) -> None:
    shown = subject(evil, died=died)
    root = ET.fromstring(render(shown, "svg"))
    steps = root.findall(".//{*}g[@data-step]")
    assert len(steps) == sum(len(stay.steps) for stay in stays(shown.trace))
    numbers = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text") if text.get("class") == "num"]
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
    tags = {each.tag.rpartition("}")[2] for each in root.iter()}
    assert not tags & {"script", "image", "foreignObject", "a", "use"}
    assert any(text.get("class") == "l nat" for text in root.iter("{http://www.w3.org/2000/svg}text"))
    assert died == any(text.get("class") == "l bad" for text in root.iter("{http://www.w3.org/2000/svg}text"))


def test_boxes_stay_inside_the_drawing_and_apart_within_a_lane() -> None:
    root = ET.fromstring(render(subject(), "svg"))
    _, _, width, height = map(float, root.get("viewBox", "").split())
    lanes: dict[float, list[tuple[float, float]]] = {}
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        x, y, wide, high = (float(box.get(key, "0")) for key in ("x", "y", "width", "height"))
        assert x + wide <= width
        assert y + high <= height
        if box.get("class") == "stay":
            lanes.setdefault(x, []).append((y, y + high))
    for spans in lanes.values():
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


class Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_nothing_and_runs_its_own_script_only() -> None:
    text = render(subject(EVIL), "html").decode()
    page = Page()
    page.feed(text)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [tag for tag, attrs in page.tags if {"src", "href"} & set(attrs) or any(name.startswith("on") for name in attrs)]
    policy = next(attrs["content"] for tag, attrs in page.tags if attrs.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    steps = [attrs["data-step"] for tag, attrs in page.tags if tag == "details"]
    assert steps == [attrs["data-step"] for tag, attrs in page.tags if tag == "g"]
    assert len(set(steps)) == len(steps)


def test_mermaid_has_no_sign_that_means_something_to_it() -> None:
    lines = render(subject(EVIL), "mermaid").decode().splitlines()
    assert lines[0] == "sequenceDiagram"
    for line in lines[3:]:
        words = line.partition(": ")[2].replace("<br/>", " ")
        assert not re.search(r"[<>{}\"`%]|#(?!\d+;)|(?<!\d);", words), line
    assert sum(line.strip() == "end" for line in lines) == sum(line.strip().startswith("box ") for line in lines) == 1
    assert "p0->>p1: " in "\n".join(lines)


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    """Take a pcapng apart, strictly."""
    found = []
    while data:
        kind, length = struct.unpack_from("=II", data)
        assert length % 4 == 0
        assert struct.unpack_from("=I", data, length - 4)[0] == length
        found.append((kind, data[8:length - 4]))
        data = data[length:]
    return found


def options(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        code, length = struct.unpack_from("=HH", data)
        if code == 0:
            assert len(data) == 4
            break
        found.append((code, data[4:4 + length]))
        data = data[4 + length + -length % 4:]
    return found


def test_pcapng_has_an_interface_of_each_namespace_and_the_rules_as_comments() -> None:
    found = blocks(render(subject(), "pcapng"))
    assert found[0][0] == 0x0A0D0D0A
    names = [dict(options(body[8:]))[2].decode() for kind, body in found if kind == 1]
    assert names == ["pod/default/client:eth0", "node/w1:veth1", "node/w1:veth2", "pod/default/web:eth0"]
    assert all(struct.unpack_from("=H", body)[0] == 101 and dict(options(body[8:]))[9] == b"\x09"
               for kind, body in found if kind == 1)
    packets = [body for kind, body in found if kind == 6]
    assert len(packets) == 8  # four interfaces, once for the exchange and once for its part
    number, high, low, size, length = struct.unpack_from("=IIIII", packets[2])
    assert (number, size, length) == (1, len(SYN), 60)
    assert (high << 32 | low) == AT + 3 * 1001
    assert packets[2][20:20 + size] == SYN
    said = [value.decode() for code, value in options(packets[2][20 + size + -size % 4:]) if code == 1]
    assert said[0] == "packet 1, request SYN: in veth1 of node/w1"
    assert "=> DNAT 10.96.0.10:80 → 10.244.2.3:8080" in said
    assert any(line.startswith("nat PREROUTING: ") and line.endswith("# kubernetes service portals") for line in said)


@pytest.mark.skipif(not shutil.which("tshark"), reason="needs tshark")
def test_wireshark_reads_the_pcapng(tmp_path: Path) -> None:
    path = tmp_path / "a.pcapng"
    path.write_bytes(bytes(render(subject(), "pcapng")))  # type: ignore[arg-type]

    def fields(*names: str) -> list[list[str]]:
        done = subprocess.run(["tshark", "-r", str(path), "-T", "fields", *(word for name in names for word in ("-e", name))],
                              capture_output=True, text=True, check=True)
        return [line.split("\t") for line in done.stdout.splitlines()]

    rows = fields("frame.interface_name", "frame.comment", "_ws.malformed")
    crossed = [event for passage in subject().trace.passages for event in passage.crossed]
    assert {row[0] for row in rows} >= {f"{event.place}:{event.interface}" for event in crossed}
    assert any("DNAT" in row[1] for row in rows)
    assert not any(row[2:3] not in ([], [""]) for row in rows)


def test_a_trace_without_packets_has_no_pcapng() -> None:
    empty = subject()
    with pytest.raises(UsageError, match="holds no packets"):
        render(Subject(dataclasses.replace(empty.trace, passages=(), parts=())), "pcapng")


def test_formats_by_name() -> None:
    assert [format_of(f"a.b{end}") for end in (".SVG", ".yml", ".pcapng")] == ["svg", "yaml", "pcapng"]
    with pytest.raises(UsageError, match=r"can't tell the format of trace\.docx"):
        format_of("trace.docx")


@pytest.mark.parametrize("form", ["text", "svg", "html", "mermaid", "json"])
def test_a_trace_of_nothing_can_be_shown(form: str) -> None:
    nothing = Trace("pod/a", "x", "tcp", "1.2.3.4:5", (), (), Outcome("timeout", why="nothing was sent"))
    assert render(Subject(nothing), form)
