"""Expressions nested deeper than the parser goes mean what they say, and say where they are wrong."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from netlab.apiserver.cel import CelError, ast, compile_dynamic, deep, plain

VALUES = {"self": {"a": 5, "s": "x", "l": [1, 2, 3]}}
LEAVES = ["a", "b.c", "1", "'x(y'", "true", "[1, 2]", "{'k': 1}", "-1", "1.5e+3", "r'\\d['", "b'q'", "r'\\'"]
FORMS = ["{} + {}", "({})", "{} || {}", "{} && {}", "{} ? {} : {}", "!{}", "-({})", "f({}, {})", "[{}, {}]", "{{'k': {}, 'l': {}}}",
         "({}).m({})", "a.all(x, {})", "a.filter(x, {}).map(y, {})", "{} in [{}]", "{} < {}", "{} * {} - {}", "a[{}].b", "has(a[{}].b)",
         "Object{{f: {}}}", "a.transformMap(i, v, {})", "a[?{}].orValue({})", "[?{}, {}]", "a.exists_one(x, {})", "a.?b.optMap(x, {})"]


@pytest.mark.parametrize(("text", "wanted"), [
    (" + ".join(["1"] * 249), 249), ("1 - " + " - ".join(["1"] * 50), -49), ("2 * " + " * ".join(["-1"] * 41), -2),
    (" + ".join(["self.s"] * 200), "x" * 200), ("(" * 250 + "1" + ")" * 250, 1), ("!" * 51 + "true", False), ("-" * 51 + "self.a", -5),
    (" || ".join(f"self.a == {at}" for at in range(200)), True), (" && ".join(f"self.a != {at}" for at in range(200)), False),
    ("".join(f"self.a == {at} ? 'x{at}' : " for at in range(60)) + "'none'", "x5"),
    ("self.l.map(x, " + "[" * 60 + "x" + "]" * 60 + ")[1]" + "[0]" * 60, 2),
    ("self.l.exists(x, x == " + "(" * 40 + "self.l.filter(y, y > 1)[0]" + ")" * 40 + ")", True),
    ("{'a': " + "{'a': " * 60 + "1" + "}" * 61 + ".a" * 61, 1), ("[" + "(" * 40 + "1" + ")" * 40 + ", ?" + "(" * 40 + "optional.of(3)" + ")" * 40 + "]", [1, 3]),
    ("(" * 40 + "has(self.a)" + ")" * 40 + " && !" + "(" * 40 + "has(self.b)" + ")" * 40, True), (" + ".join(["'[{('"] * 60), "[{(" * 60)])
def test_what_is_nested_deeply_has_its_value(text: str, wanted: Any) -> None:
    assert plain(compile_dynamic(text, ("self",)).evaluate(VALUES)) == wanted


def test_an_error_in_the_depth_is_where_it_is() -> None:
    text = "\n" + "(" * 60 + "1 + 'x'" + ")" * 60
    with pytest.raises(CelError, match=r"ERROR: <input>:2:63: found no matching overload for '_\+_'"):
        compile_dynamic(text, ("self",))


def shown(node: Any, places: dict[int, int]) -> Any:
    if not isinstance(node, ast.Node):
        return node
    fold = node.fold
    return (node.kind, node.name, repr(node.value), shown(node.target, places), [shown(one, places) for one in node.args], node.test,
            [(shown(key, places), shown(value, places), optional) for key, value, optional in node.entries], sorted(node.optional),
            places.get(node.id), fold and [fold.first, fold.second, fold.accu, *(shown(one, places) for one in (
                fold.over, fold.init, fold.condition, fold.step, fold.result))])


def shallow(levels: int) -> Callable[[str], deep.Tree]:
    def read(text: str) -> deep.Tree:
        tokens = tuple(deep._tokens(text))
        operators = sum(token.text in ("+", "||", "&&", "?", "*", "-", "<", "in", "!") for token in tokens if token.kind != "text")
        if max(token.depth for token in tokens) > levels or operators > levels * 2:
            raise deep.TooDeep
        return ast._read(text)
    return read


@pytest.mark.parametrize("seed", range(3))
def test_pieces_make_the_tree_that_the_parser_makes(seed: int) -> None:
    dice, compared = random.Random(seed), 0

    def some(depth: int) -> str:
        if depth <= 0:
            return dice.choice(LEAVES)
        form = dice.choice(FORMS)
        return form.format(*(some(depth - dice.randint(1, 2)) for _ in range(form.count("{}"))))

    for _ in range(200):
        text = some(dice.randint(2, 5))
        try:
            whole = ast._read(text)
            cut = deep.parse(text, shallow(2))
        except (CelError, deep.TooDeep):
            continue
        numbers = [node.id for node in deep._nodes(cut.root)]
        assert len(set(numbers)) == len(numbers)
        if "||" not in text and "&&" not in text:  # which the parser balances
            assert shown(cut.root, cut.places) == shown(whole.root, whole.places), text
            compared += 1
    assert compared > 40
