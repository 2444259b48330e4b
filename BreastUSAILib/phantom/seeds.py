"""Which volume seeds belong to training, validation and test: ranges that never overlap.

============  ===============================  ==========================================================
split         volume seeds                     what it is for
============  ===============================  ==========================================================
train         0 to 999 999 999                 to learn from
validation    1 000 000 000 to 1 999 999 999   to choose by: thresholds, epochs, one of several networks
test          2 000 000 000 to 2 999 999 999   to report on, once
(none)        3 000 000 000 to 4 294 967 295   for whatever is neither learnt nor measured
============  ===============================  ==========================================================

A volume is made from its seed and the specification alone. Everything that is ever learnt from phantoms comes from
`train` seeds, everything that is published from `test` seeds. The command's ``--seed S`` names a block of 100 000
volumes of the split: volume number i (from 0) has the seed ``first + 100 000 S + i``, so other S never share a volume.
"""

from __future__ import annotations

import operator

from ..errors import PhantomError

SPLITS = ("train", "validation", "test")
RANGE = 1_000_000_000  # volume seeds a split
BLOCK = 100_000  # volumes a `--seed`
BLOCKS = RANGE // BLOCK

# `numpy.random.SeedSequence([seed, stream])` takes a number apart into words of 32 bits and pads with zeros: a seed
# above them would draw what another seed's other stream draws.
LIMIT = 2**32


def volume_seed(split: str, seed: int = 0, index: int = 0) -> int:
    """The seed of a split's volume.

    Parameters
    ----------
    split : "train", "validation" or "test".
    seed : the block, 0 to 9 999 (the command's ``--seed``).
    index : the volume in the block, 0 to 99 999.

    Raises
    ------
    PhantomError : one of them is none of these.

    >>> volume_seed("validation", seed=1, index=2)
    1000100002
    """
    if split not in SPLITS:
        raise PhantomError(f"There is no split {split!r}; choose one of: {', '.join(SPLITS)}.")
    if not 0 <= seed < BLOCKS:
        raise PhantomError(f"The seed is {seed}; it must be from 0 to {BLOCKS - 1}.")
    if not 0 <= index < BLOCK:
        raise PhantomError(f"Volume {index} is beyond what a seed holds; there are {BLOCK} a seed, take the next seed as well.")
    return SPLITS.index(split) * RANGE + seed * BLOCK + index


def split_of(seed: int) -> str | None:
    """The split that a volume's seed belongs to; None for those that belong to none. Raises `PhantomError`."""
    number = check_seed(seed) // RANGE
    return SPLITS[number] if number < len(SPLITS) else None


def check_seed(seed: int) -> int:
    """A volume's seed as int. Raises `PhantomError` where it is no whole number from 0 to 2**32 - 1."""
    try:
        number = operator.index(seed)
    except TypeError:
        raise PhantomError(f"A volume's seed is {seed!r}; it must be a whole number.") from None
    if not 0 <= number < LIMIT:
        raise PhantomError(f"A volume's seed is {number}; it must be from 0 to {LIMIT - 1}.")
    return number
