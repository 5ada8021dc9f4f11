"""Arithmetic for models, which are bad at it: exact, and bounded whatever they write.

A recursive descent over this grammar, which works out the value on its way:

    sum       = product {("+" | "-") product}
    product   = part {("*" | "/" | "//" | "%") part}
    part      = signed {"of" signed}                       after a percentage alone: 17.5% of 2340
    signed    = ("+" | "-") signed | power
    power     = percent ["**" signed]                      also written ^
    percent   = primary ["%"]
    primary   = number | "pi" | "e" | function "(" sum {"," sum} ")" | "(" sum ")"

A `%` before something that can begin a number is the remainder (`7 % 3`), else a percentage (`17.5%`); before a minus
it could be either, and is refused. Remainders, `//` and `round` are Python's: they floor, and round halves to even.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Annotated

from pydantic import Field

from agent_service.errors import ToolError
from agent_service.tools.builtin.exact_number import Number, literal, power, settled, square_root, written
from agent_service.tools.decorator import tool

CHARACTERS_MAX = 1000
DEPTH_MAX = 50
ROUND_DIGITS_MAX = 100
ROUNDED_POWERS_MAX = 20

CONSTANTS: Mapping[str, str] = MappingProxyType(
    {
        "pi": "3.1415926535897932384626433832795028841971693993751",
        "e": "2.7182818284590452353602874713526624977572470937000",
    }
)
# What models also write: the signs of multiplication, of division, and of subtraction in print.
SYNONYMS: Mapping[str, str] = MappingProxyType({"^": "**", "\u00d7": "*", "\u00b7": "*", "\u00f7": "/", "\u2212": "-"})

_TOKEN = re.compile(
    r"""\s* (?: (?P<number> (?: [0-9]+ \.? [0-9]* | \.[0-9]+ ) (?: [eE][+-]?[0-9]+ )? )
    | (?P<name> [A-Za-z]+ ) | (?P<sign> \*\* | // | [-+*/%(),^\u00d7\u00b7\u00f7\u2212] ) )""",
    re.VERBOSE,
)
_LEADING_ZERO = re.compile(r"0[0-9]")


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
    """The value of an expression as text: `evaluate("17.5% of 2340") == "409.5"`.

    Raises:
        ToolError: it is not an expression, has no value, or leaves the bounds; the message says where or why.
    """
    if len(expression) > CHARACTERS_MAX:
        raise ToolError(f"the expression is longer than {CHARACTERS_MAX} characters")
    return written(_Parser(tuple(_tokens(expression))).value())


@dataclass(frozen=True, slots=True)
class _Token:
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


class _Parser:
    """Works out one expression; one method per rule of the grammar."""

    def __init__(self, tokens: tuple[_Token, ...]) -> None:
        self._tokens = tokens
        self._position = 0
        self._depth = 0
        self._rounded_powers = 0

    def value(self) -> Number:
        value = self._sum()
        if self._next.kind != "end":
            raise self._next.unexpected()
        return value

    def _sum(self) -> Number:
        value = self._product()
        while sign := self._take("+", "-"):
            other = self._product()
            value = _combined(sign, value, other)
        return value

    def _product(self) -> Number:
        value = self._part()
        while sign := self._take("*", "/", "//", "%"):
            other = self._part()
            value = _combined(sign, value, other)
        return value

    def _part(self) -> Number:
        value = self._signed()
        while self._next.text == "of":
            if self._tokens[self._position - 1].text != "%":
                raise ToolError("'of' must follow a percentage, as in 17.5% of 2340")
            self._position += 1
            value = _combined("*", value, self._signed())
        return value

    def _signed(self) -> Number:
        # All recursion comes through here.
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise ToolError(f"the expression is nested deeper than {DEPTH_MAX} levels")
        if sign := self._take("+", "-"):
            value = self._signed()
            value = Number(-value.value, value.exact) if sign == "-" else value
        else:
            value = self._power()
        self._depth -= 1
        return value

    def _power(self) -> Number:
        base = self._percent()
        if not self._take("**"):
            return base
        value = power(base, self._signed())
        # These alone take long, up to a millisecond each.
        self._rounded_powers += not value.exact
        if self._rounded_powers > ROUNDED_POWERS_MAX:
            raise ToolError(f"the expression has more than {ROUNDED_POWERS_MAX} powers that are not exact")
        return value

    def _percent(self) -> Number:
        value = self._primary()
        if self._next.text != "%":
            return value
        after = self._tokens[self._position + 1]
        if after.text == "-":
            message = (
                f"'% -' at character {self._next.column} is ambiguous: write 7 % (-3) for a remainder, (7%) - 3 else"
            )
            raise ToolError(message)
        if after.kind == "number" or after.text == "(" or (after.kind == "name" and after.text != "of"):
            return value  # a remainder
        self._position += 1
        return _combined("/", value, Number(Fraction(100)))

    def _primary(self) -> Number:
        token = self._next
        self._position += 1
        if token.kind == "number":
            if _LEADING_ZERO.match(token.text):  # the rest of "1,000", most likely
                raise ToolError(f"a number begins with 0 at character {token.column}; thousands have no separators")
            return literal(token.text)
        if token.text == "(":
            value = self._sum()
            self._expect(")")
            return value
        if token.text in CONSTANTS:
            return Number(Fraction(CONSTANTS[token.text]), exact=False)
        if token.kind != "name" or token.text == "of":
            raise token.unexpected()
        return self._called(token)

    def _called(self, token: _Token) -> Number:
        function = FUNCTIONS.get(token.text)
        if function is None:
            known = ", ".join([*FUNCTIONS, *CONSTANTS])
            raise ToolError(f"unknown name {token.text[:20]!r} at character {token.column}; known: {known}")
        self._expect("(")
        arguments = [self._sum()]
        while self._take(","):
            arguments.append(self._sum())
        self._expect(")")
        return function(arguments)

    @property
    def _next(self) -> _Token:
        return self._tokens[self._position]

    def _take(self, *signs: str) -> str:
        """The next token's text if it is one of these, which is then behind us; else nothing."""
        if self._next.text not in signs:
            return ""
        self._position += 1
        return self._tokens[self._position - 1].text

    def _expect(self, sign: str) -> None:
        if self._next.kind == "end":
            raise ToolError(f"the expression ends too early: {sign!r} is missing")
        if not self._take(sign):
            raise self._next.unexpected()


def _combined(sign: str, left: Number, right: Number) -> Number:
    if sign in {"/", "//", "%"} and not right.value:
        raise ToolError("division by zero")
    return settled(OPERATIONS[sign](left.value, right.value), exact=left.exact and right.exact)


OPERATIONS: Mapping[str, Callable[[Fraction, Fraction], Fraction]] = MappingProxyType(
    {
        "+": lambda left, right: left + right,
        "-": lambda left, right: left - right,
        "*": lambda left, right: left * right,
        "/": lambda left, right: left / right,
        "//": lambda left, right: Fraction(left // right),
        "%": lambda left, right: left % right,
    }
)


def _square_root(arguments: list[Number]) -> Number:
    if len(arguments) != 1:
        raise ToolError("sqrt takes one argument")
    return square_root(arguments[0])


def _absolute(arguments: list[Number]) -> Number:
    if len(arguments) != 1:
        raise ToolError("abs takes one argument")
    return Number(abs(arguments[0].value), arguments[0].exact)


def _round(arguments: list[Number]) -> Number:
    if len(arguments) > 2:
        raise ToolError("round takes a number and, optionally, how many digits after the point")
    digits = arguments[1].as_integer if len(arguments) == 2 else 0
    if digits is None or abs(digits) > ROUND_DIGITS_MAX:
        raise ToolError(f"round takes a whole number of digits, at most {ROUND_DIGITS_MAX}")
    return settled(Fraction(round(arguments[0].value, digits)), exact=arguments[0].exact)


FUNCTIONS: Mapping[str, Callable[[list[Number]], Number]] = MappingProxyType(
    {
        "sqrt": _square_root,
        "abs": _absolute,
        "round": _round,
        "min": lambda arguments: min(arguments, key=lambda number: number.value),
        "max": lambda arguments: max(arguments, key=lambda number: number.value),
    }
)
