"""Numbers that hold along all three axes of a volume, or along each by itself."""

from __future__ import annotations

from collections.abc import Sequence


def along_axes(value: int | Sequence[int]) -> tuple[int, int, int]:
    """A number for each of z, y, x; one alone holds along all.

    Raises
    ------
    ValueError : neither one number nor three.
    """
    numbers = (value,) * 3 if isinstance(value, int) else tuple(int(v) for v in value)
    if len(numbers) != 3:
        raise ValueError(f"{value!r} must be one number, or one for each of z, y and x.")
    return numbers
