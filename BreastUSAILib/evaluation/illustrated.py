"""Figures as text with the pictures that belong to them, so that whoever reads the one sees the other."""

from __future__ import annotations

from pathlib import Path


def illustrated(text: str, folder: Path) -> str:
    """Markdown with the pictures (PNG) that lie in `folder` below it, by their names; the file is to lie there, too."""
    pictures = sorted(path.name for path in folder.glob("*.png"))
    return "\n\n".join([text.rstrip("\n"), *(f"![{Path(name).stem}]({name})" for name in pictures)]) + "\n"
