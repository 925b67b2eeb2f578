"""Contenders measured in turn, and what the numbers say.

One after the other, round by round (A, B, C, A, B, C, …): whatever else the machine does meets all of them
alike. A ratio is the median of the rounds' own ratios, and its spread the middle half of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

Measured = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Ratio:
    """One contender over another: the median of the pairs' ratios and the quartiles on both sides of it."""

    value: float
    low: float
    high: float


def rounds(contenders: Mapping[str, Callable[[], float]], count: int) -> Measured:
    """Measure each contender `count` times, in turn. One more round goes first and does not count."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(count + 1):
        for name, measure in contenders.items():
            value = measure()
            if number:
                found[name].append(value)
    return found


def ratio(measured: Measured, ours: str, theirs: str) -> Ratio:
    """How `ours` compares to `theirs`, pair by pair."""
    pairs = [a / b for a, b in zip(measured[ours], measured[theirs], strict=True)]
    low, _, high = quantiles(pairs, n=4, method="inclusive") if len(pairs) > 1 else (pairs[0],) * 3
    return Ratio(median(pairs), low, high)
