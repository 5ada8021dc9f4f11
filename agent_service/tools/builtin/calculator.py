"""Exact arithmetic for models, with bounded cost for any expression.

Operators by precedence, lowest first:

    + -
    * / // %
    of                    only after a percentage: 17.5% of 2340
    + - (signs)
    **                    also written ^; from right to left
    % (percentage)

A `%` before something that can begin a number is the remainder (`7 % 3`), else a percentage (`17.5%`); before a minus
it could be either, and is rejected. Remainders, `//` and `round` are Python's: they floor, and round halves to even.

Values are fractions, so that 1/3 * 3 is 1. Roots are irrational, and the fractions of long calculations (`1.0041**360`)
grow without bound: from such a step on, all values are rounded to WORK_DIGITS. So no operation takes longer than a
millisecond, whatever its operands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow, Subnormal
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated, NamedTuple

from pydantic import Field

from agent_service.errors import ToolError
from agent_service.tools.decorator import tool

CHARACTERS_MAX = 1000
DEPTH_MAX = 50
ROUND_DIGITS_MAX = 100
ROUNDED_POWERS_MAX = 20  # the only slow operation, up to a millisecond each
DIGITS_MAX = 500  # before the point, or zeros after it
WORK_DIGITS = 50
RESULT_DIGITS = 28

FUNCTIONS = ("sqrt", "abs", "round", "min", "max")
CONSTANTS: Mapping[str, str] = MappingProxyType(
    {
        "pi": "3.1415926535897932384626433832795028841971693993751",
        "e": "2.7182818284590452353602874713526624977572470937000",
    }
)
# Signs that models also write: typographic multiplication, division and subtraction.
SYNONYMS: Mapping[str, str] = MappingProxyType({"^": "**", "\u00d7": "*", "\u00b7": "*", "\u00f7": "/", "\u2212": "-"})
LEVELS: Mapping[str, int] = MappingProxyType({"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "of": 3, "**": 4})
SIGNS = 3  # the level of a sign's operand, and of an exponent, which may have a sign

_TOKEN = re.compile(
    r"""\s* (?: (?P<number> (?: [0-9]+ \.? [0-9]* | \.[0-9]+ ) (?: [eE][+-]?[0-9]+ )? )
    | (?P<name> [A-Za-z]+ ) | (?P<sign> \*\* | // | [-+*/%(),^\u00d7\u00b7\u00f7\u2212] ) )""",
    re.VERBOSE,
)
_LEADING_ZERO = re.compile(r"0[0-9]")
_BITS_MAX = int(DIGITS_MAX * math.log2(10))


@tool(side_effect="read_only")
async def calculator(
    expression: Annotated[
        str,
        Field(max_length=CHARACTERS_MAX, description="Such as (2 + 3) * 4.5 / 7, or 17.5% of 2340, or round(pi, 4)."),
    ],
) -> str:
    """Work out an arithmetic expression exactly and give its decimal digits.

    Knows + - * / // % (remainder) ** and parentheses, percentages (17.5%, 17.5% of 2340), sqrt abs round min max, pi
    and e. A result without end is rounded to 28 significant digits. Write numbers without thousands separators.
    """
    return evaluate(expression)


def evaluate(expression: str) -> str:
    """Return the value of an expression as text: `evaluate("17.5% of 2340") == "409.5"`.

    Raises:
        ToolError: it is not an expression, has no value, or leaves the bounds; the message says where or why.
    """
    if len(expression) > CHARACTERS_MAX:
        raise ToolError(f"the expression is longer than {CHARACTERS_MAX} characters")
    return _Calculation(tuple(_tokens(expression))).result()


class _Token(NamedTuple):
    """A piece of the expression. `kind` is number, name, sign or end; `column` counts from 1."""

    kind: str
    text: str
    column: int

    def unexpected(self) -> ToolError:
        if self.kind == "end":
            return ToolError("the expression ends too early")
        return ToolError(f"unexpected {self.text[:20]!r} at character {self.column}")


def _tokens(expression: str) -> Iterator[_Token]:
    expression = expression.rstrip()
    position = 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            rest = expression[position:].lstrip()
            raise _Token("other", rest[0], len(expression) - len(rest) + 1).unexpected()
        kind = str(match.lastgroup)
        text = match[kind].lower()
        yield _Token(kind, SYNONYMS.get(text, text), match.start(kind) + 1)
        position = match.end()
    yield _Token("end", "", len(expression) + 1)


class _Calculation:
    """Evaluates one expression while parsing it. `_exact`: no value was rounded so far."""

    def __init__(self, tokens: tuple[_Token, ...]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0
        self._rounded_powers = 0
        self._exact = True

    def result(self) -> str:
        value = self._value(0)
        if self._next.kind != "end":
            raise self._next.unexpected()
        return _written(value, exact=self._exact)

    def _value(self, level: int) -> Fraction:
        """Parse an operand and the following operators with a higher precedence than the level."""
        nests = level in (0, SIGNS)  # between two of these, the other levels nest once
        self._depth += nests
        if self._depth > DEPTH_MAX:
            raise ToolError(f"the expression is nested deeper than {DEPTH_MAX} levels")
        value = self._operand()
        while (binding := LEVELS.get(self._next.text, 0)) > level:
            sign = self._take()
            if sign == "of" and self._tokens[self._position - 2].text != "%":
                raise ToolError("'of' must follow a percentage, as in 17.5% of 2340")
            value = self._combined(sign, value, self._value(min(binding, SIGNS)))
        self._depth -= nests
        return value

    def _operand(self) -> Fraction:
        token = self._next
        self._position += 1
        if token.text in ("+", "-"):
            value = self._value(SIGNS)
            return -value if token.text == "-" else value
        if token.kind == "number":
            if _LEADING_ZERO.match(token.text):  # the rest of "1,000", most likely
                raise ToolError(f"a number begins with 0 at character {token.column}; thousands have no separators")
            value = self._settled(_literal(token.text))
        elif token.text == "(":
            value = self._value(0)
            self._expect(")")
        elif token.text in CONSTANTS:
            value = self._settled(Fraction(CONSTANTS[token.text]), exact=False)
        elif token.kind == "name" and token.text != "of":
            value = self._called(token)
        else:
            raise token.unexpected()
        return self._settled(value / 100) if self._is_percentage() else value

    def _is_percentage(self) -> bool:
        """Skip a `%` that is not a remainder."""
        if self._next.text != "%":
            return False
        after = self._tokens[self._position + 1]
        if after.text == "-":
            at = self._next.column
            raise ToolError(f"'% -' at character {at} is ambiguous: write 7 % (-3) for a remainder, (7%) - 3 else")
        if after.kind == "number" or after.text == "(" or (after.kind == "name" and after.text != "of"):
            return False
        self._position += 1
        return True

    def _called(self, token: _Token) -> Fraction:
        if token.text not in FUNCTIONS:
            known = ", ".join([*FUNCTIONS, *CONSTANTS])
            raise ToolError(f"unknown name {token.text[:20]!r} at character {token.column}; known: {known}")
        self._expect("(")
        arguments = [self._value(0)]
        while self._next.text == ",":
            self._take()
            arguments.append(self._value(0))
        self._expect(")")
        match token.text, arguments:
            case "sqrt", [number]:
                return self._square_root(number)
            case "abs", [number]:
                return abs(number)
            case "sqrt" | "abs", _:
                raise ToolError(f"{token.text} takes one argument")
            case "round", [number]:
                return Fraction(round(number))
            case "round", [number, digits]:
                if digits.denominator != 1 or abs(digits) > ROUND_DIGITS_MAX:
                    raise ToolError(f"round takes a whole number of digits, at most {ROUND_DIGITS_MAX}")
                return self._settled(round(number, int(digits)))
            case "round", _:
                raise ToolError("round takes a number and, optionally, how many digits after the point")
        return min(arguments) if token.text == "min" else max(arguments)

    def _combined(self, sign: str, left: Fraction, right: Fraction) -> Fraction:
        if sign in ("/", "//", "%") and not right:
            raise ToolError("division by zero")
        match sign:
            case "+":
                value = left + right
            case "-":
                value = left - right
            case "/":
                value = left / right
            case "//":
                value = Fraction(left // right)
            case "%":
                value = left % right
            case "**":
                return self._power(left, right)
            case _:
                value = left * right
        return self._settled(value)

    def _settled(self, value: Fraction, *, exact: bool = True) -> Fraction:
        """Return the value, rounded to WORK_DIGITS if it, or an earlier value, is not exact or too long.

        Raises:
            ToolError: it is too large, or too close to zero.
        """
        longest = max(abs(value.numerator).bit_length(), value.denominator.bit_length())
        self._exact = self._exact and exact and longest <= _BITS_MAX
        return value if self._exact else Fraction(_rounded(value, WORK_DIGITS))

    def _power(self, base: Fraction, exponent: Fraction) -> Fraction:
        is_whole = exponent.denominator == 1
        if not base:
            if exponent < 0:
                raise ToolError("division by zero: 0 to a negative power")
            return Fraction(0 if exponent else 1)
        if base < 0 and not is_whole:
            raise ToolError("a negative number to a fractional power is not a real number")
        # An exponent may be too large to become a float; beyond this it makes no difference.
        times = float(min(abs(exponent), Fraction(2 * _BITS_MAX)))
        if is_whole and math.log2(max(abs(base.numerator), base.denominator)) * times <= _BITS_MAX:
            value = self._settled(base ** int(exponent))
        else:
            try:
                raised = _context(WORK_DIGITS).power(_rounded(abs(base), WORK_DIGITS), _rounded(exponent, WORK_DIGITS))
            except DecimalException as error:
                raise _range_error(error) from None
            value = self._settled(Fraction(-raised if base < 0 and exponent % 2 else raised), exact=False)
        self._rounded_powers += not self._exact
        if self._rounded_powers > ROUNDED_POWERS_MAX:
            raise ToolError(f"the expression has more than {ROUNDED_POWERS_MAX} powers that are not exact")
        return value

    def _square_root(self, number: Fraction) -> Fraction:
        if number < 0:
            raise ToolError("the square root of a negative number is not a real number")
        root = Fraction(math.isqrt(number.numerator), math.isqrt(number.denominator))
        if root**2 == number:
            return root
        return self._settled(Fraction(_context(WORK_DIGITS).sqrt(_rounded(number, WORK_DIGITS))), exact=False)

    @property
    def _next(self) -> _Token:
        return self._tokens[self._position]

    def _take(self) -> str:
        self._position += 1
        return self._tokens[self._position - 1].text

    def _expect(self, sign: str) -> None:
        if self._next.kind == "end":
            raise ToolError(f"the expression ends too early: {sign!r} is missing")
        if self._next.text != sign:
            raise self._next.unexpected()
        self._position += 1


def _literal(text: str) -> Fraction:
    try:
        number = _context(WORK_DIGITS).create_decimal(text)
    except DecimalException as error:
        raise _range_error(error) from None
    # Fraction would first compute 10**exponent, so the range is checked with the rounded number.
    return Fraction(text) if number else Fraction(0)


def _written(value: Fraction, *, exact: bool) -> str:
    """Write an exact number with all its digits, if it has at most DIGITS_MAX; else rounded to RESULT_DIGITS.

    Uses an exponent (`1E-30`) if zeros would represent unknown digits, or fill the line.
    """
    if exact:
        try:
            digits = _divided(value, _context(DIGITS_MAX, Inexact))
            return f"{digits:f}" if digits.adjusted() >= -RESULT_DIGITS else str(digits)
        except Inexact:
            pass  # an infinite decimal
    rounded = _rounded(value, RESULT_DIGITS).normalize(_context(RESULT_DIGITS))
    return f"{rounded:f}" if -RESULT_DIGITS <= rounded.adjusted() < RESULT_DIGITS else str(rounded)


def _rounded(value: Fraction, digits: int) -> Decimal:
    try:
        return _divided(value, _context(digits))
    except DecimalException as error:
        raise _range_error(error) from None


def _divided(value: Fraction, context: Context) -> Decimal:
    return context.divide(Decimal(value.numerator), Decimal(value.denominator))


def _context(digits: int, *more_traps: type[DecimalException]) -> Context:
    # A new context for each use: contexts have flags, so threads cannot share them. Subnormal numbers lose digits and
    # count as too close to zero.
    traps: list[type[DecimalException]] = [Overflow, Subnormal, InvalidOperation, *more_traps]
    return Context(prec=digits, Emax=DIGITS_MAX, Emin=-DIGITS_MAX, traps=traps)


def _range_error(error: DecimalException) -> ToolError:
    if isinstance(error, Subnormal):
        return ToolError(f"a number is too close to zero: more than {DIGITS_MAX} zeros after the point")
    return ToolError(f"a number is too large: more than {DIGITS_MAX} digits")
