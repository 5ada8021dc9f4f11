"""The calculator's numbers: fractions while that is possible, rounded to WORK_DIGITS where it is not.

Roots are irrational, and the fractions of long calculations (`1.0041**360`) grow without bound: both go on as decimals
of WORK_DIGITS, marked inexact. So no operation takes longer than a millisecond, whatever its operands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation, Overflow, Subnormal
from fractions import Fraction

from agent_service.errors import ToolError

DIGITS_MAX = 500
WORK_DIGITS = 50
RESULT_DIGITS = 28

_BITS_MAX = int(DIGITS_MAX * math.log2(10))


@dataclass(frozen=True, slots=True)
class Number:
    """A number of at most DIGITS_MAX digits before the point, or zeros after it. `exact`: `value` was not rounded."""

    value: Fraction
    exact: bool = True

    @property
    def as_integer(self) -> int | None:
        """The number, if it is a whole one."""
        return self.value.numerator if self.value.denominator == 1 else None


def literal(text: str) -> Number:
    """The number that `12`, `1.5`, `.5` or `1e-3` writes."""
    try:
        number = _context(WORK_DIGITS).create_decimal(text)
    except DecimalException as error:
        raise _range_error(error) from None
    # Fraction would work out 10**exponent first and be refused afterwards, so the rounded number is asked before.
    return settled(Fraction(text) if number else Fraction(0), exact=True)


def settled(value: Fraction, *, exact: bool) -> Number:
    """The number, rounded to WORK_DIGITS if it is inexact or has become too long.

    Raises:
        ToolError: it is too large, or too close to zero.
    """
    if exact and _bits(value) <= _BITS_MAX:
        return Number(value)
    return Number(Fraction(_rounded(value, WORK_DIGITS)), exact=False)


def power(base: Number, exponent: Number) -> Number:
    """`base ** exponent`, exact if the exponent is a whole number and the result is not too long.

    Raises:
        ToolError: there is no such real number, or it is too large or too close to zero.
    """
    if not base.value:
        if exponent.value < 0:
            raise ToolError("division by zero: 0 to a negative power")
        return Number(Fraction(0 if exponent.value else 1), exact=base.exact and exponent.exact)
    whole = exponent.as_integer
    if whole is None and base.value < 0:
        raise ToolError("a negative number to a fractional power is not a real number")
    if whole is not None and _bits_of_power(base.value, whole) <= _BITS_MAX:
        return settled(base.value**whole, exact=base.exact and exponent.exact)
    context = _context(WORK_DIGITS)
    size, times = _rounded(abs(base.value), WORK_DIGITS), _rounded(exponent.value, WORK_DIGITS)
    try:
        raised = Fraction(context.power(size, times))
    except DecimalException as error:
        raise _range_error(error) from None
    return settled(-raised if base.value < 0 and whole is not None and whole % 2 else raised, exact=False)


def square_root(number: Number) -> Number:
    """The root, exact if it is rational.

    Raises:
        ToolError: the number is negative.
    """
    if number.value < 0:
        raise ToolError("the square root of a negative number is not a real number")
    over, under = math.isqrt(number.value.numerator), math.isqrt(number.value.denominator)
    if over**2 == number.value.numerator and under**2 == number.value.denominator:
        return Number(Fraction(over, under), number.exact)
    root = _context(WORK_DIGITS).sqrt(_rounded(number.value, WORK_DIGITS))
    return Number(Fraction(root), exact=False)


def written(number: Number) -> str:
    """All decimal digits of an exact number, if it has at most DIGITS_MAX; else rounded to RESULT_DIGITS.

    With an exponent (`1E-30`) where zeros would stand for digits that are not known, or fill the line.
    """
    digits = _all_digits(number.value) if number.exact else None
    if digits is not None:
        return f"{digits:f}" if digits.adjusted() >= -RESULT_DIGITS else str(digits)
    rounded = _rounded(number.value, RESULT_DIGITS).normalize(_context(RESULT_DIGITS))
    return f"{rounded:f}" if -RESULT_DIGITS <= rounded.adjusted() < RESULT_DIGITS else str(rounded)


def _all_digits(value: Fraction) -> Decimal | None:
    try:
        return _divided(value, _context(DIGITS_MAX, Inexact))
    except Inexact:
        return None


def _bits(value: Fraction) -> int:
    return max(abs(value.numerator).bit_length(), value.denominator.bit_length())


def _bits_of_power(base: Fraction, exponent: int) -> float:
    longest = max(abs(base.numerator), base.denominator)
    # An exponent may be too large to become a float; beyond this it makes no difference.
    return math.log2(longest) * min(abs(exponent), 2 * _BITS_MAX)


def _rounded(value: Fraction, digits: int) -> Decimal:
    try:
        return _divided(value, _context(digits))
    except DecimalException as error:
        raise _range_error(error) from None


def _divided(value: Fraction, context: Context) -> Decimal:
    return context.divide(Decimal(value.numerator), Decimal(value.denominator))


def _context(digits: int, *more_traps: type[DecimalException]) -> Context:
    # A new one for each use: contexts carry flags, so threads can share none. Subnormal numbers lose digits, and count
    # as too close to zero.
    traps: list[type[DecimalException]] = [Overflow, Subnormal, InvalidOperation, *more_traps]
    return Context(prec=digits, Emax=DIGITS_MAX, Emin=-DIGITS_MAX, traps=traps)


def _range_error(error: DecimalException) -> ToolError:
    if isinstance(error, Subnormal):
        return ToolError(f"a number is too close to zero: more than {DIGITS_MAX} zeros after the point")
    return ToolError(f"a number is too large: more than {DIGITS_MAX} digits")
