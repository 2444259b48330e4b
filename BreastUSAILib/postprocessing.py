"""What a model's ``postprocessing`` says, as the record of a task's settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

Record = TypeVar("Record")


def settings_of(kind: type[Record], postprocessing: Mapping[str, Any]) -> Record:
    """The record of a dataclass that a mapping from JSON describes: lists become tuples, what it does not name keeps its default, and what
    the record does not know (it belongs to another step) is passed over."""
    known = {f.name for f in fields(kind)}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in postprocessing.items() if k in known})
