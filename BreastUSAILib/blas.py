"""Products of small matrices on one thread.

The BLAS libraries that NumPy comes with (OpenBLAS) hand even small products to as many threads as there are processor cores, and
these wait for each other in busy loops. On a machine that does other work as well they mostly wait: docs/reliability.md has the
figures. The variables of the environment do not help in a process whose NumPy is loaded, so the library itself is asked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy multiply matrices on the calling thread alone inside the block. Other threads of the process do so too, meanwhile."""
    with _blas().limit(limits=1):
        yield


@cache
def _blas() -> Any:
    import numpy  # noqa: F401  its library is loaded, and found, then
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
