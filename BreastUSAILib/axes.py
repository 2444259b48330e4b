"""Whole numbers that hold along all three axes of a volume, or along each by itself."""

from __future__ import annotations

import operator
from collections.abc import Sequence


def along_axes(value: int | Sequence[int]) -> tuple[int, int, int]:
    """A number for each of z, y, x; one alone holds along all.

    Raises
    ------
    ValueError : neither one whole number nor three.
    """
    try:
        numbers = (operator.index(value),) * 3 if hasattr(value, "__index__") else tuple(operator.index(v) for v in value)
    except TypeError:
        numbers = ()
    if len(numbers) != 3:
        raise ValueError(f"{value!r} must be one whole number, or one for each of z, y and x.")
    return numbers
