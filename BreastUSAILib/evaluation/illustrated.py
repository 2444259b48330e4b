"""Figures as text with the pictures that belong to them, so that whoever reads the one sees the other."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def illustrated(text: str, pictures: Iterable[Path]) -> str:
    """Markdown with pictures below it, by their names; the file is to lie in their folder. An earlier run may have left others there."""
    return "\n\n".join([text.rstrip("\n"), *(f"![{path.stem}]({path.name})" for path in sorted(pictures))]) + "\n"
