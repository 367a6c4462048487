from __future__ import annotations

import ctypes
from dataclasses import dataclass

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qmon.hmp.commands.general import format_integer
from qmon.hmp.line.expressions import evaluate
from qmon.hmp.line.words import ReadError


@dataclass(frozen=True)
class Sample:
    """An expression's text with the value that a C compiler would give it, and how tightly it binds."""

    text: str
    value: int
    level: int


SUM, LOGIC, PRODUCT, UNARY = range(4)
LEVELS = {"+": SUM, "-": SUM, "&": LOGIC, "|": LOGIC, "^": LOGIC, "*": PRODUCT, "/": PRODUCT, "%": PRODUCT}


def int64(value: int) -> int:
    return ctypes.c_int64(value).value


def compute(operator: str, left: int, right: int) -> int:
    if operator in "/%":
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        return int64(quotient if operator == "/" else left - quotient * right)
    simple = {"+": left + right, "-": left - right, "*": left * right}
    return (
        int64(simple[operator])
        if operator in simple
        else {
            "&": left & right,
            "|": left | right,
            "^": left ^ right,
        }[operator]
    )


def number(value: int, base: str) -> Sample:
    text = {"x": f"{value:#x}", "o": f"0{value:o}", "d": str(value)}[base]
    return Sample(text, int64(value), UNARY)


def unary(operand: Sample, operator: str, space: str) -> Sample:
    inner = operand.text if operand.level == UNARY else f"({operand.text})"
    value = {"-": -operand.value, "+": operand.value, "~": ~operand.value}[operator]
    return Sample(f"{operator}{space}{inner}", int64(value), UNARY)


def binary(left: Sample, operator: str, right: Sample, space: str, inside: bool) -> Sample:
    level = LEVELS[operator]
    if operator in "/%":
        assume(right.value != 0)
    left_text = f"({left.text})" if left.level < level or inside else left.text
    right_text = f"({space}{right.text})" if right.level <= level else right.text
    text = f"{left_text}{space}{operator}{space}{right_text}"
    return Sample(text, compute(operator, left.value, right.value), level)


spaces = st.sampled_from(["", " ", "\t "])
samples = st.recursive(
    st.builds(number, st.integers(0, (1 << 64) - 1) | st.integers(0, 20), st.sampled_from("xod"))
    | st.sampled_from("azA ~").map(lambda character: Sample(f"'{character}'", ord(character), UNARY)),
    lambda inner: (
        st.builds(unary, inner, st.sampled_from("+-~"), spaces)
        | st.builds(binary, inner, st.sampled_from(sorted(LEVELS)), inner, spaces, st.booleans())
    ),
    max_leaves=12,
)


@given(sample=samples, behind=st.sampled_from(["", " ", " 5", " x", ")"]))
def test_an_expression_has_the_value_that_c_gives_it(sample: Sample, behind: str) -> None:
    value, end = evaluate(sample.text + behind, 0)
    assert value == sample.value
    assert (sample.text + behind)[end:] == behind.lstrip()


ERRORS = (
    "",
    "unexpected end of expression",
    "')' expected",
    "division by zero",
    "number too large",
    "unknown register",
    "character constant expected",
    "missing terminating ' character",
)


@given(text=st.text(st.sampled_from("0123456789abxX+-*/%&|^~()'$ \t\"z.é"), max_size=30))
def test_any_text_is_a_value_or_one_of_the_errors(text: str) -> None:
    said = ""
    value, end = 0, len(text)
    try:
        value, end = evaluate(text, 0)
    except ReadError as error:
        said = str(error)
    assert said in ERRORS or said.startswith("invalid char '")
    assert -(1 << 63) <= value < 1 << 63
    assert 0 <= end <= len(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "unexpected end of expression"),
        ("1+", "unexpected end of expression"),
        ("a", "invalid char 'a' in expression"),
        ("(1", "')' expected"),
        ("1/0", "division by zero"),
        ("1%(2-2)", "division by zero"),
        ("18446744073709551616", "number too large"),
        ("9" * 10_000, "number too large"),
        ("$eax", "unknown register"),
        ("'", "character constant expected"),
        ("'A", "missing terminating ' character"),
        ("(" * 100_000, "unexpected end of expression"),
        ("(" * 100_000 + "1", "')' expected"),
        ("é", "invalid char '\udcc3' in expression"),
        ("'é'", "missing terminating ' character"),
    ],
)
def test_each_error_has_its_words(text: str, error: str) -> None:
    with pytest.raises(ReadError) as caught:
        evaluate(text, 0)
    assert str(caught.value) == error


def test_an_expression_may_nest_as_deeply_as_a_line_is_long() -> None:
    assert evaluate("(" * 50_000 + "7" + ")" * 50_000, 0) == (7, 100_001)
    assert evaluate("-" * 50_001 + "7", 0) == (-7, 50_002)
    assert evaluate("1+(2*" * 20_000 + "0" + ")" * 20_000, 0) == (39_999, 120_001)


def test_a_character_is_one_signed_byte() -> None:
    assert evaluate("'\udce9'", 0) == (-23, 3)


@pytest.mark.parametrize(
    ("value", "format_", "text"),
    [
        (255, "x", "0xff"),
        (0, "x", "0"),
        (8, "o", "010"),
        (-1, "u", "18446744073709551615"),
        (-1, "d", "-1"),
        (65, "c", "'A'"),
        (10, "c", "'\\n'"),
        (39, "c", "'\\''"),
        (300, "c", "'\\x12c'"),
        (-1, "c", "'\\xffffffff'"),
        (5, "i", "5"),
    ],
)
def test_a_value_is_shown_in_its_format(value: int, format_: str, text: str) -> None:
    assert format_integer(value, format_) == text
