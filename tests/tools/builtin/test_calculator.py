import contextlib
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_service.errors import ToolError
from agent_service.tools.builtin.calculator import calculator, evaluate


async def test_the_first_example_of_the_service_is_right() -> None:
    assert await calculator("17.5% of 2340") == "409.5"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("0.1 + 0.2", "0.3"),
        ("2 + 3 * 4", "14"),
        ("(2 + 3) * 4", "20"),
        ("7 - 2 - 1", "4"),
        ("8 / 4 / 2", "1"),
        ("-2 ** 2", "-4"),
        ("2 ** -1", "0.5"),
        ("2 ** 3 ** 2", "512"),
        ("2 ^ 10", "1024"),
        ("-7 // 2", "-4"),
        ("-7 % 3", "2"),
        ("7 % (-3)", "-2"),
        ("7.5 % 2", "1.5"),
        ("+-+1", "-1"),
        ("1e3 + 1.5E-3", "1000.0015"),
        (".5 + 5.", "5.5"),
        ("3 \u00d7 4 \u00f7 2 \u2212 1", "5"),
        ("0 * -1", "0"),
    ],
)
def test_arithmetic_follows_python(expression: str, text: str) -> None:
    assert evaluate(expression) == text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("17.5%", "0.175"),
        ("17.5 % of 2340 + 1", "410.5"),
        ("10% of 50% of 80", "4"),
        ("100 / 50% of 10", "20"),
        ("100 + 10%", "100.1"),
        ("50% * 3", "1.5"),
        ("(20%) - 5%", "0.15"),
        ("50% ** 2", "0.25"),
        ("-50% of 10", "-5"),
        ("max(10%, 5%)", "0.1"),
        ("10 % 3", "1"),
        ("10 % round(3.2)", "1"),
        ("10 % pi", "0.5752220392306202846120698502"),
    ],
)
def test_a_percent_sign_is_a_percentage_unless_an_operand_follows(expression: str, text: str) -> None:
    assert evaluate(expression) == text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("1/3", "0.3333333333333333333333333333"),
        ("2/3 * 1000", "666.6666666666666666666666667"),
        ("1/3 * 3", "1"),
        ("1/7 * 10**40", "1.428571428571428571428571429E+39"),
        ("10**40", "1" + "0" * 40),
        ("2**400", str(2**400)),
        ("1/8", "0.125"),
        ("1e-30", "1E-30"),
        ("sqrt(2)", "1.414213562373095048801688724"),
        ("sqrt(2) ** 2", "2"),
        ("sqrt(16/25)", "0.8"),
        ("sqrt(10**60 + 1)", "1E+30"),
        ("8 ** (1/3)", "2"),
        ("pi", "3.141592653589793238462643383"),
        ("E", "2.718281828459045235360287471"),
        ("1.0041 ** 360", "4.36222585883037299291960652"),
        ("(-1) ** (10**400 + 1)", "-1"),
        ("0 ** 0", "1"),
        ("0.99999999999 ** 100000000000", "0.3678794411696029243896588944"),
    ],
)
def test_results_are_exact_or_rounded_to_28_digits(expression: str, text: str) -> None:
    assert evaluate(expression) == text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("round(2.5)", "2"),
        ("round(3.14159, 2)", "3.14"),
        ("round(12345, -2)", "12300"),
        ("abs(-3)", "3"),
        ("min(3, 1, 2) + max(4)", "5"),
        ("SQRT(9)", "3"),
    ],
)
def test_functions_are_known(expression: str, text: str) -> None:
    assert evaluate(expression) == text


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1 / 0", "division by zero"),
        ("1 // (2 - 2)", "division by zero"),
        ("5 % 0", "division by zero"),
        ("0 ** -1", "division by zero: 0 to a negative power"),
        ("sqrt(-1)", "the square root of a negative number is not a real number"),
        ("(-8) ** 0.5", "a negative number to a fractional power is not a real number"),
        ("", "the expression ends too early"),
        ("1 +", "the expression ends too early"),
        ("17.5% of", "the expression ends too early"),
        ("sqrt(4", "the expression ends too early: ')' is missing"),
        ("2 pi", "unexpected 'pi' at character 3"),
        ("1 @ 2", "unexpected '@' at character 3"),
        ("1_000", "unexpected '_' at character 2"),
        ("3 + 4)", "unexpected ')' at character 6"),
        ("min()", "unexpected ')' at character 5"),
        ("2e", "unexpected 'e' at character 2"),
        ("\u0663", "unexpected '\u0663' at character 1"),
        ("sin(1)", "unknown name 'sin' at character 1; known: sqrt, abs, round, min, max, pi, e"),
        ("__import__('os')", "unexpected '_' at character 1"),
        ("max(1,000)", "a number begins with 0 at character 7; thousands have no separators"),
        ("1/2 of 3", "'of' must follow a percentage, as in 17.5% of 2340"),
        ("sqrt(1, 2)", "sqrt takes one argument"),
        ("abs(1, 2)", "abs takes one argument"),
        ("round(1, 2, 3)", "round takes a number and, optionally, how many digits after the point"),
        ("round(1, 0.5)", "round takes a whole number of digits, at most 100"),
        ("round(1, 101)", "round takes a whole number of digits, at most 100"),
    ],
)
def test_what_has_no_value_is_refused_in_clear_words(expression: str, message: str) -> None:
    with pytest.raises(ToolError) as caught:
        evaluate(expression)
    assert caught.value.message == message


def test_a_percent_sign_before_a_minus_is_refused_as_ambiguous() -> None:
    with pytest.raises(ToolError, match=r"'% -' at character 4 is ambiguous"):
        evaluate("10 % -3")


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("9**9**9", "too large"),
        ("9**9**9**9**9", "too large"),
        ("1e501", "too large"),
        ("1e-501", "too close to zero"),
        ("1e99999999999999999999", "too large"),
        ("1e-99999999999999999999", "too close to zero"),
        ("9" * 1000, "too large"),
        ("1e400 * 1e400", "too large"),
        ("0.5 ** 1e400", "too close to zero"),
        ("7.3 ** -99999999", "too close to zero"),
        ("1.0000001 ** 1e300", "too large"),
        ("(" * 400 + "1" + ")" * 400, "nested deeper than 50 levels"),
        ("-" * 900 + "1", "nested deeper than 50 levels"),
        ("2**" * 300 + "2", "nested deeper than 50 levels"),
        ("1+" * 1000 + "1", "longer than 1000 characters"),
        ("e**e**e-" * 100 + "1", "more than 20 powers"),
    ],
)
def test_whatever_would_grow_without_bound_is_refused_at_once(expression: str, message: str) -> None:
    began = time.process_time()
    with pytest.raises(ToolError, match=message):
        evaluate(expression)
    # Some milliseconds; the bound is loose for slow machines.
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    "expression",
    [
        "1/3" + "+1/7**99" * 120,
        "*".join(f"{number}/1{number}" for number in range(11, 120)),
        "1e499" + "//3.3" * 190,
        "sqrt(2)+" * 120 + "1",
        "(1+.1/365)**999*" * 20 + "1",
    ],
)
def test_the_longest_expressions_end_soon(expression: str) -> None:
    began = time.process_time()
    evaluate(expression)
    assert time.process_time() - began < 0.5


class Expressions:
    """Expressions as text, beside their value; None where it is undefined or leaves the calculator's bounds."""

    Pair = tuple[str, Fraction | None]

    @staticmethod
    def number() -> st.SearchStrategy[Pair]:
        decimals = st.decimals(0, 10_000, places=3).map(lambda number: f"{number:f}".rstrip("0").rstrip("."))
        return (st.integers(0, 10**12).map(str) | decimals).map(lambda text: (text, Fraction(text)))

    @staticmethod
    def combined(children: st.SearchStrategy[Pair]) -> st.SearchStrategy[Pair]:
        binary = st.tuples(children, st.sampled_from(["+", "-", "*", "/", "//", "%"]), children).map(Expressions.join)
        negative = children.map(lambda pair: (f"(-{pair[0]})", None if pair[1] is None else -pair[1]))
        percent = children.map(lambda pair: (f"({pair[0]}%)", None if pair[1] is None else pair[1] / 100))
        return binary | negative | percent

    @staticmethod
    def join(parts: tuple[Pair, str, Pair]) -> Pair:
        (left, left_value), sign, (right, right_value) = parts
        text = f"({left} {sign} {right})"
        if left_value is None or right_value is None or (sign in "//%" and not right_value):
            return text, None
        values = {
            "+": lambda: left_value + right_value,
            "-": lambda: left_value - right_value,
            "*": lambda: left_value * right_value,
            "/": lambda: left_value / right_value,
            "//": lambda: Fraction(left_value // right_value),
            "%": lambda: left_value % right_value,
        }
        return text, values[sign]()


expressions = st.recursive(Expressions.number(), Expressions.combined, max_leaves=12)


@settings(max_examples=200, deadline=None)
@given(expressions)
def test_every_expression_has_the_value_that_fractions_give_it(pair: Expressions.Pair) -> None:
    expression, value = pair
    if value is None:
        with pytest.raises(ToolError):
            evaluate(expression)
        return
    result = Fraction(evaluate(expression))
    assert abs(result - value) <= abs(value) / 10**27
    terminates = value.denominator == 1 or 10 ** value.denominator.bit_length() % value.denominator == 0
    assert result == value or not terminates


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789.eE+-*/%(),^ of pi sqrt min", max_size=60))
def test_any_text_is_a_number_or_a_tool_error(text: str) -> None:
    with contextlib.suppress(ToolError):
        Fraction(evaluate(text))
