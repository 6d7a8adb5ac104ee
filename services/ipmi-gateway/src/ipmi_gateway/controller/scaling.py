"""Values to readings of 8 bits: y = (M x + B 10^Bexp) 10^Rexp (section 36.3), and the factors that a range needs."""

import math
from dataclasses import dataclass
from enum import IntEnum


class Linearization(IntEnum):
    """What a client applies to the scaled reading (table 43-1, octet 24)."""

    LINEAR = 0
    POWER_OF_TWO = 6


@dataclass(frozen=True, slots=True)
class Scaling:
    """Factors of section 36.3, for unsigned 8-bit readings without tolerance."""

    m: int
    b: int
    b_exponent: int
    r_exponent: int
    linearization: Linearization = Linearization.LINEAR

    def raw(self, value: float) -> int:
        """The nearest reading, 0-255."""
        if self.linearization is Linearization.POWER_OF_TWO:
            value = math.log2(max(value, 1.0))
        return min(max(round((value / 10.0**self.r_exponent - self.b * 10.0**self.b_exponent) / self.m), 0), 255)

    def value(self, raw: int) -> float:
        """What a client makes of a reading."""
        scaled = (self.m * raw + self.b * 10.0**self.b_exponent) * 10.0**self.r_exponent
        return 2.0**scaled if self.linearization is Linearization.POWER_OF_TWO else scaled

    def covers(self, value: float) -> bool:
        """Whether a reading can tell this value, give or take half a step at the ends of the scale."""
        first, second, last = self.value(0), self.value(1), self.value(255)
        margin = (second - first) / 2
        low = 0.0 if self.linearization is Linearization.POWER_OF_TWO else first - margin
        return low <= value <= last + margin


LOGARITHMIC = Scaling(1, 0, 0, -1, Linearization.POWER_OF_TWO)
"""From 1 to 47 millions in steps of 7 %, for sensors of which nobody has said how far they go."""


_MAX_OFFSET = 511
"""B has ten bits, and a sign."""
_EXPONENTS = range(-8, 8)
_STEPS = (10, 12, 15, 16, 20, 24, 25, 30, 32, 40, 50, 60, 64, 75, 80, 100)
"""Values of M: steps between readings that keep round values round, and waste few of the 256 readings."""


def scaling_for(minimum: float, maximum: float) -> Scaling:
    """Factors that cover a range: readings begin at `minimum` or just below, and reach `maximum`."""
    if maximum <= minimum:
        maximum = minimum + 1.0
    span = maximum - minimum
    r_exponent = min(max(math.floor(math.log10(span / 255)) - 1, _EXPONENTS.start), _EXPONENTS.stop - 1)
    while True:
        for m in _STEPS:
            scaling = _with_offset(m, minimum, r_exponent)
            if scaling.value(255) >= maximum - 1e-9 * span:
                return scaling
        if r_exponent == _EXPONENTS.stop - 1:
            return scaling  # beyond what a record can say: such a sensor shows its range's end
        r_exponent += 1


def _with_offset(m: int, minimum: float, r_exponent: int) -> Scaling:
    """The offset in units of 10^Bexp: the minimum, rounded down to what ten bits can tell."""
    offset, b_exponent = minimum / 10.0**r_exponent, 0
    while abs(offset) > _MAX_OFFSET and b_exponent < _EXPONENTS.stop - 1:
        offset /= 10
        b_exponent += 1
    nearest = round(offset)
    b = nearest if abs(offset - nearest) < 1e-6 else math.floor(offset)
    return Scaling(m, min(max(b, -_MAX_OFFSET), _MAX_OFFSET), b_exponent, r_exponent)
