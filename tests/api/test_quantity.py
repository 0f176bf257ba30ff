"""Quantities, beside kubectl's reading of them."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.api import quantity
from netlab.api.quantity import Quantity

from .oracle import kubectl

POD = json.dumps({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x"}, "spec": {"containers": [{"name": "c"}]}})
TEXTS = ["100m", "1.5Gi", "0.5Gi", "0.5Ki", "1Ki", "1023", "1024", "1000", "1024Ki", "1500Ki", "1e3", "1E3", "12e6", "1e-3", "15e-4",
         "1.0", "0.1", "500Mi", "12345678", "1500m", "1000m", "1.2G", "1E", "1Ei", "2.5Ki", "0.3Ki", "1.1Ki", "1000k", ".5", "5.", "+3",
         "0", "0.0", "00012", "1n", "0.5n", "1u", "1001u", "999999999n", "1000000000n", "0.000000001", "0.0000000001", "1k", "3P",
         "9223372036854775807", "0.9Mi", "100000Ki", "7.5M", "1.25e2", "1e0", "1e1", "2e18", "0e5", "1023Mi", "0.001Gi", "1.999999999",
         "05Ki", "+5Ki", "08Ki", "005Mi", "+3Gi", "05.0Ki", "9Ti", "07Pi", "03Ei", "0123456789Ki", "01234567Gi", "+8Mi", "-05Ki", "0500m"]


def read_by_kubectl(texts: list[str]) -> dict[str, str]:
    """Return each text as kubectl writes it back."""
    limits = ",".join(f"x.y/r{at}={text}" for at, text in enumerate(texts))
    done = kubectl("set", "resources", "--local", "-f", "-", f"--limits={limits}", "-o", "json", stdin=POD)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["spec"]["containers"][0]["resources"]["limits"]
    return {text: found[f"x.y/r{at}"] for at, text in enumerate(texts)}


def test_texts_come_out_as_kubectl_writes_them():
    assert {text: quantity.canonical(text) for text in TEXTS} == read_by_kubectl(TEXTS)


NUMBERS = st.builds(lambda whole, part: f"{whole}.{part}" if part else str(whole), st.integers(0, 5000), st.sampled_from(
    ["", "5", "25", "1", "001", "999", "123456789"]))
SUFFIXES = st.sampled_from(["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e1", "e2", "e3", "E4", "e-2", "e-6"])


@pytest.mark.parametrize("seed", range(2))
def test_random_texts_come_out_as_kubectl_writes_them(seed):
    import random

    dice = random.Random(seed)
    texts = [f"{dice.randrange(5000)}{dice.choice(['', '.5', '.25', '.1', '.001', '.999', '.123456789'])}"
             f"{dice.choice(['', 'n', 'u', 'm', 'k', 'M', 'G', 'Ki', 'Mi', 'Gi', 'e1', 'e2', 'e3', 'E4', 'e-2', 'e-6'])}"
             for _ in range(150)] + [f"{dice.choice(['', '+', '-', '0', '00'])}{dice.randrange(3000)}{dice.choice(['', '.1', '.125', 'Ki', 'Gi', 'Pi'])}"
                                     for _ in range(50)]
    assert {text: quantity.canonical(text) for text in texts} == read_by_kubectl(texts)


@pytest.mark.parametrize("text", ["", "a", "1x", "1.2.3", "--1", "1Kib", "1 ", " 1", "1e", "1mi", "1e1.5", "1KI", "1i", "0x1", "1_0", "١",
                                  "1-5", "1e-", "1.5.", "e5x", "1Mii"])
def test_what_is_no_quantity(text):
    done = kubectl("set", "resources", "--local", "-f", "-", f"--limits=cpu={text}", "-o", "json", stdin=POD)
    with pytest.raises(ValueError) as error:
        quantity.parse(text)
    if text not in {"", "1 ", " 1"}:  # kubectl trims and splits these
        assert done.returncode != 0
        assert str(error.value) in done.stderr


@given(NUMBERS, SUFFIXES, NUMBERS, SUFFIXES)
def test_arithmetic_and_order_are_exact(one, its, other, others):
    left, right = quantity.parse(one + its), quantity.parse(other + others)
    assert quantity.parse(str(left)) == left
    assert str(quantity.parse(str(left))) == str(left)
    assert (left < right) == (left.amount < right.amount)
    assert (left + right) - right == left
    assert (left * 3).amount == left.amount * 3
    assert left.value() - 1 < left.amount <= left.value()
    assert left.milli() - 1 < left.amount * 1000 <= left.milli()


def test_numbers_and_rounding():
    assert quantity.parse(2).value() == 2
    assert quantity.parse(1.5).milli() == 1500
    assert quantity.parse("-1.5").value() == -2
    assert [str(quantity.parse(nothing)) for nothing in ("m", "Ki", "-", ".", "+.n")] == ["0"] * 5
    with pytest.raises(ValueError):
        quantity.parse("1e99999999999")
    assert quantity.parse("1e30") == Quantity(Fraction((1 << 63) - 1))
    assert quantity.parse("1Gi") == quantity.parse("1073741824")
    assert sum((quantity.parse(text) for text in ("100m", "0.2", "1")), quantity.ZERO) == quantity.parse("1300m")
    assert str(quantity.parse("1Mi") + quantity.parse("1k")) == "1049576"
    assert {quantity.parse("1"), quantity.parse("1000m")} == {quantity.parse("1e0")}
    assert not quantity.parse("0Gi")
