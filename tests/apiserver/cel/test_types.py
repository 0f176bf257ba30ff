"""What is refused before anything is evaluated: texts, names, types, and what would cost too much."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from netlab.apiserver.admission import expressions
from netlab.apiserver.cel import CelError, Environment, Patience
from netlab.apiserver.crd import rule_checks
from netlab.apiserver.crd.declared import declared

SCHEMA = {"type": "object", "properties": {
    "spec": {"type": "object", "properties": {
        "replicas": {"type": "integer"}, "name": {"type": "string", "maxLength": 10}, "ratio": {"type": "number"}, "on": {"type": "boolean"},
        "port": {"x-kubernetes-int-or-string": True}, "at": {"type": "string", "format": "date-time"}, "raw": {"type": "string", "format": "byte"},
        "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 5}, "by": {"type": "object", "additionalProperties": {"type": "integer"}},
        "nested": {"type": "array", "items": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "string"}}}}},
        "loose": {"x-kubernetes-preserve-unknown-fields": True}, "a-b": {"type": "string"}, "namespace": {"type": "string"},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}}}


def wrong(text: str, schema: Any = SCHEMA) -> str:
    found = declared(schema, root=True)
    assert found is not None
    try:
        Environment({"self": found, "oldSelf": found}).compile(text)
    except CelError as error:
        return str(error)
    return ""


def test_an_error_shows_its_place() -> None:
    assert wrong("self.spec.nope == 1") == "ERROR: <input>:1:10: undefined field 'nope'\n | self.spec.nope == 1\n | .........^"
    assert wrong("true &&\n  self.spec.name + 1 == 2") == (
        "ERROR: <input>:2:18: found no matching overload for '_+_' applied to '(string, int)'\n |   self.spec.name + 1 == 2\n | .................^")
    both = wrong("a == 1 && b == 2").split("ERROR: ")
    assert [part.partition("\n")[0] for part in both[1:]] == [
        "<input>:1:1: undeclared reference to 'a' (in container '')", "<input>:1:11: undeclared reference to 'b' (in container '')"]


@pytest.mark.parametrize(("text", "said"), [
    ("self.spec.replicas + 'a' == ''", "found no matching overload for '_+_' applied to '(int, string)'"), ("self.spec.name > 3", "'_>_' applied to '(string, int)'"),
    ("self.spec.replicas == 1.0", "'_==_' applied to '(int, double)'"), ("self.spec.replicas < 1.5", ""), ("self.spec.ratio == 1", "'(double, int)'"),
    ("self.spec.on ? 1 : 'a'", "'_?_:_' applied to '(bool, int, string)'"), ("self.spec.name.foo", "type 'string' does not support field selection"),
    ("self.spec.tags.all(t, t > 1)", "'(string, int)'"), ("self.spec.nested[0][0].y == ''", "undefined field 'y'"), ("self.spec.nested.all(l, l.all(o, o.x == 'a'))", ""),
    ("self.spec.by.all(k, self.spec.by[k] > 'a')", "'(int, string)'"), ("self.spec.by.all(k, v, k > v)", "'(string, int)'"), ("self.spec.tags.all(i, t, i < t)", "'(int, string)'"),
    ("self.spec.port > 5 && self.spec.port.matches('a')", ""), ("self.spec.at > timestamp('2020-01-01T00:00:00Z')", ""), ("self.spec.at > '2020'", "'(timestamp, string)'"),
    ("self.spec.raw == b'a'", ""), ("self.spec.loose == 1", "undefined field 'loose'"), ("has(self.spec.any)", ""), ("self.spec.any.x == 1", "undefined field 'x'"),
    ("self.spec.a__dash__b == self.spec.__namespace__", ""), ("self.metadata.name == 'a' && self.kind == 'b'", ""), ("self.metadata.labels['a'] == 'b'", "undefined field 'labels'"),
    ("self.spec.name.matches('(')", "invalid matches argument"), ("duration('1x') > duration('1s')", "invalid duration argument"), ("timestamp('x') == timestamp(0)", "invalid timestamp argument"),
    ("[1, 'a'] == []", "expected type 'int' but found 'string'"), ("{'a': 1, 'b': 'c'} == {}", "expected type 'int' but found 'string'"), ("[[1], ['a']] == []", "expected type 'list(int)'"),
    ("self.spec.replicas.all(x, true)", "expression of type 'int' cannot be range of a comprehension"), ("self.spec.tags.join(1)", "'join' applied to 'list(string).(int)'"),
    ("self.spec.nope()", "undeclared reference to 'nope'"), ("nope(1)", "undeclared reference to 'nope'"), ("object.spec", "undeclared reference to 'object'"),
    ("self.spec.?name.orValue(1) == 'a'", "'orValue' applied to 'optional_type(string).(int)'"), ("self.spec.?name.orValue('x') == 'a'", ""), ("self.spec.?zip.hasValue()", "undefined field 'zip'"),
    ("quantity('1') == 1", "'(kubernetes.Quantity, int)'"), ("quantity('1').add(quantity('2')).isInteger()", ""), ("ip('::1') == '::1'", "'(net.IP, string)'"), ("1 +", "Syntax error: mismatched input '<EOF>'"),
    ("[].all(x, x > 0)", ""), ("[1].map(x, [x])[0][0] == 1", ""), ("[1].transformMap(i, v, string(v))[0] == 1", "'(string, int)'"), ("type(self.spec.name) == string", ""), ("dyn(self.spec.name) == 1", ""),
    ("self.spec.nested.map(l, l.map(o, o.x.size()))[0][0] == 'a'", "'(int, string)'"), ("self.spec == null", ""), ("self.spec.name == null", "'(string, null)'"),
    ("Object{a: 1} == 1", "undeclared reference to 'Object'"), ("{[1]: 2} == {}", "unsupported map key type"), ("self.all(1, x, true)", "argument must be a simple name"),
    ("('('" + " + '('" * 300 + ").size() > 1", "expression recursion limit exceeded"), ("'" + "a" * 70000 + "' == ''", "longer than 65536 characters"),
])
def test_types(text: str, said: str) -> None:
    found = wrong(text)
    assert said in found if said else not found, found


def schemas() -> Iterator[Any]:
    """Yield schema, rule, and the estimate that upstream's own tests state for it (TestCostEstimation)."""
    def one(kind: str) -> dict[str, Any]:
        return {"ios": {"x-kubernetes-int-or-string": True}}.get(kind) or (
            {"type": "string", "format": kind} if kind in ("duration", "date", "date-time") else {"type": kind})

    for kind, rule, most, wanted in (
            ("number", "self.all(x, true)", None, 4718591), ("number", "self.all(x, true)", 10, 32), ("string", "self.all(x, true)", None, 3145727),
            ("boolean", "self.all(x, true)", None, 1887437), ("number", "self[1] == 0.0", None, 2), ("string", "self[1] == self[1]", None, 314577), ("ios", "self[0] == 5", None, 3),
            ("number", "self.all(x, self.all(y, true))", 10, 352), ("number", "self.all(x, self.all(y, self.all(z, true)))", 10, 3552), ("number", "self.all(x, x == 0.0)", None, 6291454),
            ("duration", "self[0].getHours() == 2", None, 4), ("date", "self.all(x, true)", None, 725936), ("date-time", "self.all(x, true)", None, 428963),
            ("string", "self.join(' ') == 'aa bb'", None, 329853068905), ("string", "self.isSorted() == true", None, 329854432052)):
        yield {"type": "array", "items": one(kind), **({"maxItems": most} if most else {})}, rule, wanted
    for kind, rule, most, wanted in (
            ("number", "self.all(x, true)", None, 1348169), ("string", "self.all(x, true)", 3, 11), ("duration", "self.all(x, true)", None, 1048577), ("date", "self.all(x, true)", None, 524288),
            ("number", "self['x'] == 0.0", 0, 2), ("integer", "oldSelf.size() == self.size()", None, 5), ("date-time", "self['a'] == self['b']", None, 8)):
        yield {"type": "object", "additionalProperties": one(kind), **({"maxProperties": most} if most is not None else {})}, rule, wanted
    for rule, length, wanted in (
            ("self.contains('test')", None, 314574), ("self.contains('test')", 10, 5), ("self.startsWith('test')", None, 2), ("size(self + 'hello') > size('hello')", None, 314578),
            ("size(self + 'hello') > size('hello')", 4, 7), ("self.matches('x')", None, 314574), ("self.matches('x')", 50, 22), ("self.matches('')", 100, 1), ("self == 'x'", 0, 1),
            ("self.find('[0-9]+') == ''", None, 629147), ("self.lowerAscii() == 'lower!'", None, 314575), ("self.lowerAscii() == 'lower!'", 10, 6)):
        yield {"type": "string", **({"maxLength": length} if length is not None else {})}, rule, wanted
    text = {"type": "string"}
    yield {"type": "string", "enum": ["A", "B", "C", "LongValue"]}, "self.contains('A')", 2
    yield {"type": "object", "properties": {"s": text, "t": text}}, "self.s.split(self.t) == []", 629160
    yield {"type": "object", "properties": {"s": text, "b": {**text, "maxLength": 2}, "a": {**text, "maxLength": 4}}}, "self.s.replace(self.b, self.a) == 'does not matter'", 629154
    yield {"type": "object", "additionalProperties": {**text, "maxLength": 10}, "maxProperties": 10}, "self.all(x, x.contains(self[x]))", 72
    yield {"type": "array", "items": {"type": "object", "additionalProperties": {"type": "object", "required": ["required"], "properties": {"required": text, "optional": text}}}}, \
        'self.all(x, x["y"].required == "z")', 7340027


@pytest.mark.parametrize(("schema", "rule", "wanted"), list(schemas()))
def test_costs(schema: Any, rule: str, wanted: int) -> None:
    found = declared(schema)
    assert found is not None
    assert Environment({"self": found, "oldSelf": found}).compile(rule).cost() == wanted


def rules(schema: Any, *texts: str, **more: Any) -> list[str]:
    return [str(error) for error in rule_checks.check({**schema, "x-kubernetes-validations": [{"rule": text, **more} for text in texts]}, "schema")]


def test_rules_that_cost_too_much() -> None:
    items = {"type": "array", "items": {"type": "string"}}
    schema = {"type": "object", "properties": {"l": items}}
    advice = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    said = rules(schema, "self.l.all(x, self.l.all(y, x != y))")
    assert said[0] == f"schema.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {advice}"
    assert said[1].startswith("schema.x-kubernetes-validations[0].rule: Forbidden: contributed to estimated rule cost total")
    assert said[2] == ("schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by "
                       f"factor of more than 100x {advice}")
    bounded = {"type": "object", "properties": {"l": {**items, "maxItems": 100, "items": {"type": "string", "maxLength": 50}}}}
    assert not rules(bounded, "self.l.all(x, self.l.all(y, x != y))")
    inner = {"type": "object", "properties": {"l": {"type": "array", "items": {"type": "string", "x-kubernetes-validations": [{"rule": "self.contains('keyword')"}]}}}}
    assert any("properties[l].items.x-kubernetes-validations[0].rule: Forbidden: estimated rule cost exceeds budget by factor of more than 100x" in str(error)
               for error in rule_checks.check(inner, "schema"))
    inner["properties"]["l"] |= {"maxItems": 10, "items": {**inner["properties"]["l"]["items"], "maxLength": 100}}
    assert not [*rule_checks.check(inner, "schema")]
    assert "factor of 1.094500x" in rules({"type": "object", "properties": {"l": {"type": "array", "items": {"type": "integer"}, "maxItems": 1250}}}, "self.l.all(x, self.l.all(y, x + y > 2))")[0]


@pytest.mark.parametrize(("rule", "said"), [
    ({"rule": "self.x"}, "must evaluate to a bool"), ({"rule": ""}, "rule is not specified"), ({"rule": "self.b", "message": " "}, "message: Invalid value: \" \": must be non-empty if specified"),
    ({"rule": "self.b", "message": "a\nb"}, "must not contain line breaks"), ({"rule": "self.b ||\nself.b"}, "message must be specified if rule contains line breaks"),
    ({"rule": "self.b", "messageExpression": "self.x"}, "messageExpression must evaluate to a string"), ({"rule": "self.b", "messageExpression": " "}, "must be non-empty if specified"),
    ({"rule": "self.b", "messageExpression": "self.y"}, "messageExpression compilation failed: ERROR: <input>:1:5: undefined field 'y'"), ({"rule": "self.b", "reason": "X"}, "Unsupported value"),
    ({"rule": "self.b", "optionalOldSelf": True}, "may not be set if oldSelf is not used in rule"), ({"rule": "oldSelf.hasValue()", "optionalOldSelf": True}, ""),
    ({"rule": "oldSelf.orValue(self).b", "optionalOldSelf": True}, ""), ({"rule": "self.b == oldSelf.b"}, ""),
])
def test_rules(rule: dict, said: str) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "integer"}, "b": {"type": "boolean"}}, "x-kubernetes-validations": [rule]}
    found = [str(error) for error in (*rule_checks.texts(schema, "s", convertible=True), *rule_checks.check(schema, "s"))]
    assert any(said in one for one in found) if said else not found, found


def test_the_past_of_a_list_is_known_by_key_only() -> None:
    inner = {"type": "object", "properties": {"n": {"type": "string"}}, "x-kubernetes-validations": [{"rule": "self.n == oldSelf.n"}]}
    atomic = {"type": "object", "properties": {"l": {"type": "array", "items": inner, "maxItems": 5}}}
    assert "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[l]" in str(next(rule_checks.check(atomic, "s")))
    atomic["properties"]["l"] |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"]}
    assert not [*rule_checks.check(atomic, "s")]


@pytest.mark.parametrize(("spec", "said"), [
    ({"validations": [{"expression": "object.spec.replicas"}]}, "spec.validations[0].expression: Invalid value: \"object.spec.replicas\": must evaluate to bool but got dyn"),
    ({"validations": [{"expression": "request.nope == ''"}]}, "compilation failed: ERROR: <input>:1:8: undefined field 'nope'"), ({"validations": [{"expression": "params.x == 1"}]}, "undeclared reference to 'params'"),
    ({"paramKind": {"kind": "x"}, "validations": [{"expression": "params.x == 1"}]}, ""), ({"validations": [{"expression": "true", "messageExpression": "1"}]}, "must evaluate to string but got int"),
    ({"variables": [{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.a + 'x'"}]}, "spec.variables[1].expression: Invalid value"),
    ({"variables": [{"name": "a", "expression": "1"}], "validations": [{"expression": "variables.a == 'x'"}]}, "'(int, string)'"), ({"validations": [{"expression": "variables.z == 1"}]}, "undefined field 'z'"),
    ({"matchConditions": [{"name": "c", "expression": "variables.a"}]}, "undeclared reference to 'variables'"), ({"auditAnnotations": [{"key": "a", "valueExpression": "true"}]}, "must evaluate to one of [string null_type] but got bool"),
    ({"validations": [{"expression": "namespaceObject.metadata.labels['a'] == 'b' && authorizer.requestResource.check('get').allowed()"}]}, ""),
    ({"validations": [{"expression": "namespaceObject.metadata.managedFields == []"}]}, "undefined field 'managedFields'"), ({"validations": [{"expression": "authorizer.nope()"}]}, "undeclared reference to 'nope'"),
])
def test_policies(spec: dict, said: str) -> None:
    found = [str(error) for error in expressions.policy(spec, mutating=False)]
    assert any(said in one for one in found) if said else not found, found


@pytest.mark.parametrize(("part", "text", "said"), [
    ("applyConfiguration", "Object{spec: Object.spec{replicas: 1}}", ""), ("applyConfiguration", "{'spec': 1}", "must evaluate to Object but got map(string, int)"),
    ("jsonPatch", "[JSONPatch{op: 'add', path: '/a', value: 1}]", ""), ("jsonPatch", "[JSONPatch{op: 1}]", "expected type of field 'op' is 'string' but provided type is 'int'"),
    ("jsonPatch", "[]", "must evaluate to list(JSONPatch) but got list(dyn)"), ("jsonPatch", "true ? [JSONPatch{op: 'remove', path: '/x'}] : []", ""),
    ("applyConfiguration", "Nope{a: 1}", "undeclared reference to 'Nope'"),
])
def test_mutations(part: str, text: str, said: str) -> None:
    found = [str(error) for error in expressions.policy({"mutations": [{part: {"expression": text}}]}, mutating=True)]
    assert said in found[0] if said else not found, found


def test_checks_end() -> None:
    """As many as fit into a request would take minutes; and an error does not repeat a long line."""
    spent = Patience(-1)
    schema = {"type": "object", "x-kubernetes-validations": [{"rule": "nope"}] * 3}
    said = "the check takes more than -1 seconds of the processor: write fewer or shorter expressions"
    assert [str(error) for error in rule_checks.check(schema, "s", spent)] == [f"s.x-kubernetes-validations[0]: Forbidden: {said}"]
    errors = expressions.policy({"validations": [{"expression": "nope"}] * 3}, mutating=False, patience=spent)
    assert {str(error) for error in errors} == {f"spec.validations: Forbidden: {said}"}
    long = wrong(" || ".join(f"a{number} == 1" for number in range(3000)))
    assert long.count("ERROR") == 100
    assert len(long) < 20000


def test_kinds_that_policies_are_about() -> None:
    kind = declared(SCHEMA, root=True)
    assert kind is not None
    spec = {"validations": [{"expression": "object.spec.replicas > 1 || object.foo"}, {"expression": "object.spec.replicas > 0", "messageExpression": "object.bar"}]}
    assert expressions.warnings(spec, {"example.com/v1, Kind=Foo": kind}, None) == [
        {"fieldRef": "spec.validations[0].expression", "warning": "example.com/v1, Kind=Foo: ERROR: <input>:1:35: undefined field 'foo'\n"
                                                                  " | object.spec.replicas > 1 || object.foo\n | ..................................^\n"},
        {"fieldRef": "spec.validations[1].messageExpression", "warning": "example.com/v1, Kind=Foo: ERROR: <input>:1:7: undefined field 'bar'\n | object.bar\n | ......^\n"}]
