"""What expressions evaluate to: the language, Kubernetes' libraries, and the C++ implementation as second opinion."""

from __future__ import annotations

from typing import Any

import pytest

from netlab.apiserver.cel import CelError, Lazy, authorizer, compile_dynamic, plain

SELF = {"a": [3, 1, 2], "s": "abc", "m": {"x": 1, "y": 2}, "deep": {"list": [{"n": "a", "v": 1}, {"n": "b"}]}, "nil": None, "f": 1.5}


def value(text: str, **more: Any) -> Any:
    return compile_dynamic(text, ("self", *more), mutating=True).evaluate({"self": SELF, **more})


@pytest.mark.parametrize(("text", "wanted"), [
    ("self.a.all(i, v, i < v)", False), ("self.a.all(i, v, v > 0 && i < 3)", True), ("self.m.all(k, v, k != string(v))", True),
    ("[1, 2, 3].exists(i, v, v == 3 && i == 2)", True), ("{'a': 'b'}.exists(k, v, k == v)", False),
    ("[1, 2].existsOne(i, v, v == 3 || i == 0)", True), ("[1, 1].exists_one(i, v, v == 1)", False),
    ("[1, 2, 3].transformList(i, v, i * v + v)", [1, 4, 9]), ("self.m.transformList(k, v, v > 1, k)", ["y"]),
    ("self.m.transformMap(k, v, v * 2)", {"x": 2, "y": 4}), ("[5, 6].transformMap(i, v, i > 0, v)", {1: 6}),
    ("self.m.transformMapEntry(k, v, {v: k})", {1: "x", 2: "y"}), ("self.m.transformMapEntry(k, v, v > 1, {k: v})", {"y": 2}),
    ("{'h': ['hi']}.all(k, vs, vs.all(v, v.startsWith(k)))", True), ("[[1, 2], [3]].transformList(i, l, l.transformList(j, v, v + i))", [[1, 2], [4]]),
    ("[1, 2].transformList(i, v, 10 / i)", "division by zero"), ("[1, 1].transformMapEntry(i, v, {v: i})", "insert failed: key 1 already exists"),
])
def test_comprehensions_of_two_variables(text: str, wanted: Any) -> None:
    check(text, wanted)


@pytest.mark.parametrize(("text", "wanted"), [
    # lists
    ("[1, 2, 2].isSorted()", True), ("['b', 'a'].isSorted()", False), ("[1, 2].sum()", 3), ("[1.5, 2.0].sum()", 3.5),
    ("[duration('1m'), duration('1s')].sum() == duration('61s')", True), ("[3, 1].min()", 1), ("['a', 'b'].max()", "b"), ("[].min()", "min called on empty list"),
    ("[1, 2, 1].indexOf(1)", 0), ("[1, 2, 1].lastIndexOf(1)", 2), ("[1].indexOf(5)", -1), ("[b'a', b'b'].max() == b'b'", True),
    # regular expressions
    ("'abc 123'.find('[0-9]*')", ""), ("'abc 123'.find('[0-9]+')", "123"), ("'123 abc 456'.findAll('[0-9]+')", ["123", "456"]),
    ("'123 abc 456'.findAll('[0-9]+', 1)", ["123"]), ("self.s.matches('^a.c$')", True), ("self.s.matches('(' + '')", "error parsing regexp: missing closing ): `(`"),
    # URLs
    ("isURL('https://user:pass@example.com:80/path?query=val#fragment')", True), ("isURL('../relative-path')", False),
    ("url('https://example.com:80/').getHost()", "example.com:80"), ("url('https://[::1]:80/').getHostname()", "::1"), ("url('/path').getScheme()", ""),
    ("url('https://example.com/path with spaces/').getEscapedPath()", "error"), ("url('https://x/a%20b').getEscapedPath()", "/a%20b"),
    ("url('https://x/?k1=a&k2=b&k2=c').getQuery()", {"k1": ["a"], "k2": ["b", "c"]}), ("url('https://x:8443').getPort()", "8443"), ("url('/x').getHost()", ""),
    # addresses
    ("isIP('127.0.0.1')", True), ("isIP('::ffff:1.2.3.4')", False), ("isIP('01.2.3.4')", False), ("ip('::1').family()", 6), ("string(ip('2001:DB8::1'))", "2001:db8::1"),
    ("ip.isCanonical('2001:DB8::1')", False), ("ip('127.0.0.1') == ip('127.0.0.1')", True), ("ip('0.0.0.0').isUnspecified()", True), ("ip('::1').isLoopback()", True),
    ("ip('ff02::1').isLinkLocalMulticast()", True), ("ip('169.254.169.254').isLinkLocalUnicast()", True), ("ip('10.0.0.1').isGlobalUnicast()", True),
    ("ip('255.255.255.255').isGlobalUnicast()", False), ("isCIDR('192.168.0.0/16')", True), ("isCIDR('192.168.0.0/')", False), ("isCIDR('::ffff:1.2.3.4/24')", False),
    ("cidr('192.168.0.0/24').containsIP('192.168.0.1')", True), ("cidr('192.168.0.0/24').containsIP(ip('192.168.1.1'))", False),
    ("cidr('192.168.0.0/16').containsCIDR('192.168.10.0/24')", True), ("cidr('192.168.0.0/24').containsCIDR(cidr('192.168.0.0/23'))", False),
    ("cidr('192.168.1.5/24').ip() == ip('192.168.1.5')", True), ("string(cidr('192.168.1.5/24').masked())", "192.168.1.0/24"), ("cidr('::1/128').prefixLength()", 128),
    ("ip('nope')", 'IP Address "nope" parse error during conversion from string'),
    # quantities
    ("isQuantity('1.3G')", True), ("isQuantity('1.3GB')", False), ("quantity('50k').asInteger()", 50000), ("quantity('1.1').asInteger()", "cannot convert value to integer"),
    ("quantity('1.3').isInteger()", False), ("quantity('-5').sign()", -1), ("quantity('1500m').asApproximateFloat()", 1.5),
    ("quantity('1M').isGreaterThan(quantity('1Ki'))", True), ("quantity('200M').compareTo(quantity('0.2G'))", 0), ("quantity('200M') == quantity('0.2G')", True),
    ("quantity('50k').add(20) == quantity('50020')", True), ("quantity('50k').sub(quantity('20k')).isLessThan(quantity('40k'))", True), ("quantity('x')", "error"),
    # versions
    ("isSemver('1.0.0')", True), ("isSemver('v1.0')", False), ("isSemver('v1.0', true)", True), ("semver('01.02', true).minor()", 2), ("semver('1.2.3').patch()", 3),
    ("semver('1.2.3-alpha.2').isLessThan(semver('1.2.3-alpha.10'))", True), ("semver('1.2.3-1').isLessThan(semver('1.2.3-a'))", True),
    ("semver('1.2.3').compareTo(semver('1.2.3-rc.1'))", 1), ("semver('1.2.3+a') == semver('1.2.3+b')", True), ("isSemver('1.0.0-01')", False),
    # formats
    ("format.dns1123Label().validate('my-label').hasValue()", False), ("format.dns1123Label().validate('My').value().size()", 1),
    ("format.named('dns1035Label').value().validate('1a').hasValue()", True), ("format.named('nope').hasValue()", False), ("format.labelValue().validate('a b').hasValue()", True),
    ("format.dns1123LabelPrefix().validate('a-').hasValue()", False), ("format.qualifiedName().validate('a.b/c').hasValue()", False),
    ("format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()", False), ("format.byte().validate('aGVsbG8=').hasValue()", False),
    ("format.date().validate('2021-13-01').value()", ["invalid date"]), ("format.datetime().validate('2021-01-01T00:00:00Z').hasValue()", False), ("format.uri().validate('http://a').hasValue()", False),
    # sets, text, optional values, patches
    ("sets.contains([1, 2], [])", True), ("sets.equivalent([1], [1, 1])", True), ("sets.intersects([1], [2])", False), ("sets.contains([1.0], [dyn(1)])", True),
    ("'%s %d %.2f %x %o %b %e %%'.format([dyn([1, 2]), dyn(7), dyn(2.5), dyn(255), dyn(8), dyn(5), dyn(1234.5)])", "[1, 2] 7 2.50 ff 10 101 1.234500e+03 %"),
    ("'%s'.format([{'b': dyn(1), 'a': dyn(timestamp('2020-01-01T00:00:00Z'))}])", '{"a":timestamp("2020-01-01T00:00:00Z"), "b":1}'), ("'%s'.format([[dyn('x'), dyn(1.5), dyn(b'y'), dyn(null), dyn(duration('90s')), dyn(['z'])]])", '["x", 1.500000, b"y", null, duration("90s"), ["z"]]'),
    ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
    ("'hello'.substring(1, 3) + 'x'.charAt(1) + ' ab '.trim() + 'aB'.upperAscii() + 'É'.lowerAscii()", "elabABÉ"), ("'hello hello'.replace('he', 'we', 1)", "wello hello"),
    ("'hello mellow'.lastIndexOf('ello', 6)", 1), ("['a', 'b'].join('-')", "a-b"), ("strings.quote('a\"\\n')", '"a\\"\\n"'), ("'abc'.charAt(4)", "index out of range: 4"),
    ("self.?m.?q.orValue('none')", "none"), ("self.?m.x.value()", 1), ("self.a[?9].hasValue()", False), ("self.?nil.hasValue()", False), ("has(self.nil)", False),
    ("optional.of(2).optMap(v, v + 1).value()", 3), ("optional.none().optFlatMap(v, optional.of(v)).hasValue()", False), ("optional.ofNonZeroValue('').or(optional.of('x')).value()", "x"),
    ("{?'a': optional.none(), 'b': 1}", {"b": 1}), ("[?optional.of(1), 2]", [1, 2]), ("[1].first().value() + [1, 2].last().value()", 3),
    ("jsonpatch.escapeKey('a/b~c')", "a~1b~0c"), ("Object{spec: Object.spec{a: 1, ?b: optional.none()}}", {"spec": {"a": 1}}),
    ("[JSONPatch{op: 'add', path: '/x', value: Object.x{y: [1]}}]", [{"op": "add", "path": "/x", "value": {"y": [1]}}]),
    # numbers, times, errors
    ("string(1e6) + ' ' + string(1.5) + ' ' + string(1e-7) + ' ' + string(100000.0)", "1e+06 1.5 1e-07 100000"), ("9223372036854775807 + 1", "integer overflow"),
    ("-7 / 2 * 10 + -7 % 3", -31), ("5u - 6u", "unsigned integer overflow"), ("1 / 0", "division by zero"), ("int('x')", 'strconv.ParseInt: parsing "x": invalid syntax'),
    ("dyn(1) == 1.0 && dyn(1u) < 1.5 && dyn(true) != 1", True), ("{1: 'a'}[dyn(1.0)]", "a"), ("{true: 'a'}[dyn(1)]", "no such key: 1"),
    ("timestamp('2024-02-29T23:59:59.123456789Z').getMilliseconds()", 123), ("timestamp('2024-03-01T00:30:00Z').getDate('-01:00')", 29),
    ("timestamp('2024-07-01T00:00:00Z').getHours('Europe/Berlin')", 2), ("timestamp('2024-01-01T00:00:00Z') + duration('36h')", "2024-01-02T12:00:00Z"),
    ("string(duration('90m') - duration('1.5s'))", "5398.5s"), ("duration('1h1m').getMinutes()", 61), ("timestamp(0) == timestamp('1970-01-01T00:00:00Z')", True),
    ("self.nope == 1 || true", True), ("[1, 2].exists(x, 4 / (x - 1) > 3)", True), ("[1, 2].all(x, self.nope)", "no such key: nope"), ("self.a[3]", "index out of bounds: 3"),
    ("type(self.f) == double && type(self) == map && type(1) != uint && type(null) == null_type", True), ("self.s.size() == 'é€😀'.size()", True),
])
def test_functions(text: str, wanted: Any) -> None:
    check(text, wanted)


def check(text: str, wanted: Any) -> None:
    """`wanted` is the value, or how the error reads; "error" for any."""
    try:
        found = plain(value(text))
    except CelError as error:
        found = str(error) if wanted != "error" else wanted
    assert found == (wanted if not isinstance(wanted, dict) else plain(wanted)), found


@pytest.mark.parametrize("text", [
    "1 + 2 * 3 - -4", "7 / 2", "-7 / 2", "-7 % 3", "1.5 + 2.0", "'a' + 'b'", "[1] + [2, 3]", "b'a' + b'b' == b'ab'", "1 < 2 && 2.0 >= 1.5", "'a' < 'b'", "true || 1 / 0 > 1",
    "1 / 0 > 1 || true", "false && 1 / 0 > 1", "1 / 0 > 1 && false", "self.a[0] > 2 ? 'big' : 'small'", "self.a.map(x, x * 2)", "self.a.filter(x, x > 1)", "self.a.map(x, x > 1, x + 1)",
    "self.a.exists_one(x, x == 3)", "self.m.map(k, k).size()", "self.m.exists(k, self.m[k] == 2)", "self.deep.list.map(e, has(e.v))", "self.deep.list.filter(e, has(e.v) && e.v == 1)[0].n",
    "'x' in self.m", "3 in self.a", "9 in self.a", "self.m == {'y': 2, 'x': 1}", "self.a == [3, 1, 2]", "[[1], [2]] == [[1], [2]]", "dyn(1) == 1.0", "size(self.s) + self.a.size() + size(self.m)",
    "self.s.contains('b')", "self.s.startsWith('ab')", "self.s.endsWith('x')", "self.s.matches('a.*')", "int('42') + int(3.9) + int(2u)", "uint(3) == 3u", "double('1.5')", "string(12) + string(true)",
    "bool('true')", "timestamp('2024-02-29T12:30:45Z').getDayOfYear()", "timestamp('2024-02-29T12:30:45Z').getDayOfWeek()", "duration('90m').getHours()", "self.a[7]", "self.m.z", "9223372036854775807 + 1",
    "self.s.charAt(1)", "'a b c'.split(' ')", "'a b c'.split(' ', 0)", "'tacocat'.indexOf('a', 2)", "'tacocat'.lastIndexOf('a')", "'tacocat'.substring(1, 4)", "'aaa'.replace('', '-')", "'aaa'.replace('a', 'b', 2)",
    "' x\\t'.trim()", "['a', 'b'].join()", "'%s-%d-%.1f'.format([dyn('a'), dyn(1), dyn(1.25)])", "self.?m.?x.orValue(5)", "self.?q.orValue(5)", "[1, 2, 3][?1].value()", "optional.of(1).optMap(x, x + 1).value()",
    "[[1, 2], [3]].map(l, l.map(x, x * x))", "self.a.all(x, x > 0) && !self.a.exists(x, x > 3)", "[1, 2, 3].map(x, [x, x])", "{'a': [1]}.a[0]", "type(1) == int", "!(1 == 2)", "-(3)", "[].size()", "{}.size()",
    "'\\u00e9\\x41\\101'", "r'\\n'", "1e3", "0x1F", "self.s == 'abc' ? self.m.x : self.m.zz", "string(1.5)", "[1.0, 2.0] == [1.0, 2.0]", "self.f * 2.0", "null == null", "self.nil == null",
])
def test_the_library_says_the_same(text: str) -> None:
    from cel_expr_python import cel
    from cel_expr_python.ext import ext_optional, ext_strings
    env = cel.NewEnv(variables={"self": cel.Type.DYN}, extensions=[ext_strings.ExtStrings(), ext_optional.ExtOptional()])
    found = env.compile(text).eval(data={"self": SELF})
    if str(found.type()) == "ERROR":
        with pytest.raises(CelError):
            value(text)
        return
    mine = plain(value(text))
    assert mine == found.plain_value()
    assert type(mine) is type(found.plain_value()) or isinstance(mine, int)


def test_questions_about_rights() -> None:
    asked: list[dict[str, str]] = []

    def decide(question: Any) -> tuple[bool, str]:
        asked.append(dict(question))
        return question["verb"] == "get", "because"

    given = authorizer.values({"resource": {"group": "apps", "resource": "deployments"}, "namespace": "n", "name": "web"})
    with authorizer.asking(decide):
        text = "authorizer.group('').resource('pods').subresource('log').namespace('x').name('p').fieldSelector('a=b').labelSelector('c').check('get').allowed()"
        assert compile_dynamic(text, tuple(given)).evaluate(given) is True
        text = "authorizer.serviceAccount('ns', 'sa').path('/healthz').check('put').reason() + string(authorizer.requestResource.check('get').errored())"
        assert compile_dynamic(text, tuple(given)).evaluate(given) == "becausefalse"
    assert asked[0] == {"group": "", "resource": "pods", "subresource": "log", "namespace": "x", "name": "p", "fieldSelector": "a=b", "labelSelector": "c", "verb": "get"}
    assert asked[1] == {"serviceAccount": "ns/sa", "path": "/healthz", "verb": "put"}
    assert (asked[2]["resource"], asked[2]["name"]) == ("deployments", "web")
    for bad in ("authorizer.path('')", "authorizer.group('').resource(' ')", "authorizer.serviceAccount('a b', 'c')"):
        with pytest.raises(CelError):
            compile_dynamic(bad, tuple(given)).evaluate(given)


def test_variables_are_evaluated_once_when_asked_for() -> None:
    asked: list[str] = []

    def compute(name: str) -> int:
        asked.append(name)
        if name == "bad":
            raise CelError("no value")
        return 5

    given = {"variables": Lazy(("good", "bad", "unused"), compute)}
    assert compile_dynamic("variables.good + variables.good", ("variables",)).evaluate(given) == 10
    assert compile_dynamic("variables.bad == 1 || true", ("variables",)).evaluate(given) is True
    with pytest.raises(CelError, match="no value"):
        compile_dynamic("variables.bad", ("variables",)).evaluate(given)
    assert asked == ["good", "bad"]
