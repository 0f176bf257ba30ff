"""Expressions made to take all there is end with an error, and soon: no crash, little memory."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from netlab.apiserver.cel import OUT, Budget, CelError, OutOfBudget, compile_dynamic, plain
from netlab.apiserver.cel.run import PER_CALL

BIG = [{"a": number} for number in range(20000)]
VALUES = {"self": {"s": "a" * 1000, "big": BIG}}
COST = "operation cancelled: actual cost limit exceeded"


def evaluate(text: str, budget: Budget | None = None) -> Any:
    return plain(compile_dynamic(text, ("self",), mutating=True).evaluate(VALUES, budget))


def unhurried() -> Budget:
    """Return a budget that a slow processor does not use up: what one evaluation may cost comes to its end first."""
    return Budget(10 * PER_CALL, seconds=60)


@pytest.mark.parametrize(("text", "said"), [
    ("'aaaaaaaaaa'" + ".replace('a', 'aaaaaaaaaa')" * 12, COST), ("''.replace('', 'aaaaaaaaaa')" + ".replace('a', 'aaaaaaaaaa')" * 12, COST),
    ("[self.s]" + ".map(x, x + x)" * 25 + "[0].size()", COST), ("[self.s]" + ".map(x, '%s%s'.format([x, x]))" * 20, COST),
    ("self.big.map(x, self.s).join(self.s)", "operation cancelled: a string of more than"), ("[[1, 2]]" + ".map(x, x + x)" * 22 + "[0].size()", "memory limit"),
    ("[1].map(x, [x, x])" + ".map(x, [x, x])" * 24 + " == [1].map(x, [x, x])" + ".map(x, [x, x])" * 24, COST), ("[1]" + ".map(x, [x, x])" * 25, "too large"),
    ("[1]" + ".map(x, {x: x})" * 20, "unsupported map key type"), ("self.big.map(a, self.big.map(b, self.big.map(c, c)))", COST), ("self.big.all(a, self.big.exists(b, b == a))", COST),
    ("self.big.all(a, a in self.big)", COST), ("sets.equivalent(self.big, self.big)", COST), ("self.big.all(x, self.s.matches('(a|aa)+$'))", COST),
    ("self.s.find('(((a{100}){100})' + '{100})')", "error parsing regexp"), ("self.big.transformMap(i, v, self.big.map(x, x))", COST), ("self.big.map(x, Object{a: x})", COST),
    ("int('" + "9" * 5000 + "')", "invalid syntax"), ("duration('" + "9" * 300 + "h' + '')", "invalid duration"), ("quantity('1e999999999')", "unable to parse"), ("1e308 * 1e308", "no JSON number"),
    ("timestamp('9999-12-31T23:59:59Z') + duration('100000h')", "timestamp overflow"), ("timestamp(0).getHours('../../etc/passwd')", "unknown time zone"), ("timestamp(0).getHours('+99:99')", "unknown time zone"),
    ("(" * 260 + "1" + ")" * 260, "recursion limit"), ("[" * 260 + "]" * 260, "recursion limit"), ("1" + " + 1" * 5000, "recursion limit"), ("'" + "a" * 70000 + "'", "longer than"), ("\ud800", "no UTF-8"), ("'\\ud800'", "Unicode"), ("\x00", "Syntax error"),
    ("self.big.sum()", "no such overload"), ("self.big.isSorted()", "no such overload"), ("self[self]", "no such key"), ("authorizer.group('a')", "undeclared"),
])
def test_bad_ends(text: str, said: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CelError) as found:
        evaluate(text, unhurried())
    assert said in str(found.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


def test_the_limit_of_one_evaluation() -> None:
    """2 for a round that ends the loop early, 3 and the predicate's own for each: as upstream counts."""
    for text, cost in (("1", 0), ("self.s", 2), ("self.s == 'a'", 3), ("has(self.s)", 1), ("[1, 2].all(x, true)", 10 + 2 * 3 + 1), ("[1].map(x, x)", 10 + 10 + 10 + 1 + 2 + 1),
                       ("[1, 2].exists(x, true)", 10 + 4 + 3 + 1), ("{'a': 1}", 30), ("self.s.contains('aa')", 2 + 100), ("self.s.matches('aaaa')", 2 + 101), ("true || self.s == ''", 0),
                       ("self.s.replace('a', 'bb')", 2 + 400), ("1 + 1 == 2", 2)):
        budget = Budget(PER_CALL)
        evaluate(text, budget)
        assert PER_CALL - budget.cost == cost, text


def test_a_budget_is_for_all_of_several_evaluations() -> None:
    budget = Budget(1000)
    for _ in range(9):
        assert evaluate("self.s.contains('aa')", budget) is True
    with pytest.raises(OutOfBudget, match=OUT):
        evaluate("self.s.contains('aa') || true", budget)
    inner = Budget(10**9, within=Budget(50))
    with pytest.raises(OutOfBudget):
        evaluate("self.s.contains('aa')", inner)


def test_errors_do_not_hide_what_is_out_of_budget() -> None:
    with pytest.raises(CelError, match="actual cost limit exceeded"):
        evaluate("self.big.all(a, self.big.all(b, true)) || true", unhurried())
    with pytest.raises(CelError, match="actual cost limit exceeded"):
        evaluate("[1].exists(x, self.big.all(a, self.big.all(b, true)) || x == 1)", unhurried())
