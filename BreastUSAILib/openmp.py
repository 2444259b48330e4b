"""How threads of OpenMP wait for each other: briefly awake, then asleep.

PyTorch on Linux comes with GNU's OpenMP, whose threads by default turn in a busy loop for milliseconds at the end of every layer. Where
another process holds a core they keep it from the very thread that they wait for (docs/performance.md has the figures); asleep at once
(OMP_WAIT_POLICY=PASSIVE) they take longer to wake on a quiet machine. Ten thousand turns, some ten microseconds, are as good as either.
"""

from __future__ import annotations

from collections.abc import MutableMapping

SPINS = "10000"
_SAID_BY_USERS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def wait_briefly(environment: MutableMapping[str, str]) -> None:
    """Say so in an environment, unless its user has said how to wait. OpenMP reads it once: before PyTorch is imported."""
    if not any(name in environment for name in _SAID_BY_USERS):
        environment["GOMP_SPINCOUNT"] = SPINS
