"""A trace as one HTML page that needs nothing else: the drawing, and beside it the list of hops to search and open."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from netlab.trace.document import began
from netlab.trace.event import Trace
from netlab.trace.views import Subject
from netlab.trace.views.svg import drawing, escape
from netlab.trace.views.way import Step, bad, ending, stays, title

_STYLE: Final = """
body{margin:0;font:14px/1.45 system-ui,sans-serif;color:#1f2328;background:#fff}
header{padding:14px 20px 10px;border-bottom:1px solid #d0d7de}h1{font-size:19px;margin:0 0 4px}
h2{font-size:15px;margin:18px 0 6px}
.good{color:#1a7f37}.bad{color:#cf222e}.warn{color:#9a6700}main{display:flex;gap:0;align-items:flex-start}
#list{flex:0 0 430px;max-height:calc(100vh - 90px);overflow:auto;position:sticky;top:0;padding:10px 14px;
box-sizing:border-box;border-right:1px solid #d0d7de}
#map{flex:1;overflow:auto;max-height:calc(100vh - 90px);padding:10px}
input[type=search]{width:100%;box-sizing:border-box;padding:5px 8px;font:inherit;border:1px solid #d0d7de;
border-radius:6px}
.kinds{margin:8px 0}.kinds label{margin-right:10px;white-space:nowrap}
h3{font-size:13px;margin:12px 0 3px;color:#0969da}
details{border-left:3px solid transparent;padding:1px 0 1px 6px}details.on{border-color:#bf8700;background:#fff8c5}
summary{cursor:pointer;font:12px ui-monospace,Menlo,monospace;overflow-wrap:anywhere}
summary b{display:inline-block;min-width:2.2em;color:#fff;background:#57606a;border-radius:9px;
text-align:center;font-size:10px;margin-right:4px}
summary .ms{color:#57606a;float:right;margin-left:8px}
pre{font:12px ui-monospace,Menlo,monospace;white-space:pre-wrap;overflow-wrap:anywhere;background:#f6f8fa;
margin:3px 0;padding:6px}
.nat>summary{color:#953800}.drop>summary,.isbad>summary{color:#cf222e}.deliver>summary{color:#1a7f37}
[hidden]{display:none}
table{border-collapse:collapse;font:12px ui-monospace,Menlo,monospace}td,th{text-align:left;padding:2px 12px 2px 0}
g[data-step]{cursor:pointer}
@media(max-width:1000px){main{display:block}#list,#map{max-height:none;position:static;border:0}}
"""
_SCRIPT: Final = """
'use strict';
const all=[...document.querySelectorAll('details[data-step]')],find=document.getElementById('find'),
 boxes=[...document.querySelectorAll('.kinds input')];
function show(){const word=find.value.toLowerCase(),kinds=new Set(boxes.filter(b=>b.checked).map(b=>b.value));
 for(const d of all)d.hidden=!kinds.has(d.dataset.kind)||(word&&!d.textContent.toLowerCase().includes(word));
 for(const s of document.querySelectorAll('section.stay'))
  s.hidden=![...s.querySelectorAll('details')].some(d=>!d.hidden);}
function pick(step,from){for(const d of all){const on=d.dataset.step===step;d.classList.toggle('on',on);
  if(on&&from!=='list'){d.open=true;d.hidden=false;d.closest('section').hidden=false;
   d.scrollIntoView({block:'center'});}}
 for(const g of document.querySelectorAll('g[data-step]')){const on=g.dataset.step===step;
  g.querySelector('rect').classList.toggle('on',on);if(on&&from!=='map')g.scrollIntoView({block:'center',inline:'center'});}}
find.addEventListener('input',show);for(const b of boxes)b.addEventListener('change',show);
for(const d of all)d.querySelector('summary').addEventListener('click',()=>pick(d.dataset.step,'list'));
for(const g of document.querySelectorAll('g[data-step]'))g.addEventListener('click',()=>pick(g.dataset.step,'map'));
"""
_KINDS: Final = ("iface", "rule", "policy", "nat", "route", "conntrack", "drop", "deliver")


def render(subject: Subject) -> str:
    """Return the page. Whatever comes from the machine is escaped, and nothing but the page's own script may run."""
    trace = subject.trace
    good, words = ending(trace)
    script = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script}'"
    subjects = list(_all(subject))
    used = {step.hop.kind for _, each in subjects for stay in stays(each.trace) for step in stay.steps}
    lists, maps, first = "", "", 0
    for heading_words, each in subjects:
        heading = f"<h2>{escape(heading_words)}</h2>\n" if heading_words else ""
        lists += heading + "".join(_list(each, first)) + _packets(each.trace)
        maps += heading + drawing(each, first)
        first += sum(len(stay.steps) for stay in stays(each.trace))
    kinds = "".join(f'<label><input type="checkbox" value="{kind}" checked> {kind}</label>'
                    for kind in _KINDS if kind in used)
    warnings = "".join(f'<div class="warn">{escape(line)}</div>' for line in _warnings(trace))
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            f'<meta name="viewport" content="width=device-width"><title>{escape(title(trace))}</title>\n'
            f"<style>{_STYLE}</style></head><body>\n"
            f'<header><h1>{escape(title(trace))}</h1><div class="{"good" if good else "bad"}">{escape(words)}</div>'
            f"{warnings}</header>\n"
            f'<main><div id="list"><input type="search" id="find" placeholder="search: chain, address, interface"'
            f' aria-label="search"><div class="kinds">{kinds}</div>\n{lists}</div>\n'
            f'<div id="map">{maps}</div></main>\n<script>{_SCRIPT}</script></body></html>\n')


def _all(subject: Subject) -> Iterator[tuple[str, Subject]]:
    """Yield the exchange and behind it its parts, each with words for a heading."""
    yield "", subject
    for part in subject.trace.parts:
        yield f"{part.role.upper()} {part.words}", replace(subject, trace=part.trace)


def _list(subject: Subject, step: int) -> Iterator[str]:
    start = began(subject.trace)
    direction = ""
    for stay in stays(subject.trace):
        packet = stay.steps[0].hop.packet
        if stay.direction != direction:
            direction = stay.direction
            yield f"<h2>{direction.upper()} {escape(f'{packet.what} {packet}')}</h2>\n"
        yield f'<section class="stay"><h3>{escape(stay.place)}</h3>\n'
        for each in stay.steps:
            yield _item(subject, each, step, start)
            step += 1
        yield "</section>\n"


def _item(subject: Subject, step: Step, index: int, start: int) -> str:
    hop = step.hop
    number = f"<b>{step.number}</b>" if step.number else ""
    time = f'<span class="ms">{(hop.at - start) / 1e6:.3f} ms</span>' if hop.at else ""
    far = subject.links.get(f"{hop.place} {hop.interface}", "")
    words = f"{step.words} ({far})" if far else step.words
    return (f'<details data-step="{index}" data-kind="{hop.kind}" class="{hop.kind}{" isbad" if bad(hop) else ""}">'
            f"<summary>{time}{number}{escape(words)}</summary><pre>{escape(step.full)}</pre></details>\n")


def _packets(trace: Trace) -> str:
    if not trace.passages:
        return ""
    start = began(trace)
    rows = "".join(f"<tr><td>{number}</td><td>{(each.at - start) / 1e6:.3f}</td><td>{each.direction}</td>"
                   f"<td>{escape(each.what)}{' again' if each.again else ''}</td><td>{each.payload}</td></tr>"
                   for number, each in enumerate(trace.passages, 1))
    return ("<h2>All packets</h2><table><tr><th>#</th><th>ms</th><th>way</th><th>what</th><th>bytes</th></tr>"
            f"{rows}</table>")


def _warnings(trace: Trace) -> Iterator[str]:
    if trace.lost:
        yield f"{trace.lost} times the kernel had more events than room: hops may be missing"
    yield from trace.warnings
