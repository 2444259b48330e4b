"""What data sets of images and of volumes are called in figures, and which names are refused."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..errors import BreastUSAIError

TOGETHER = "all"
"""What all data sets together are called, where there are several."""


def name_of(folder: Path | str) -> str:
    """What a data set is called: its folder's name as the user has it, also that of a link, and of "."."""
    return os.path.basename(os.path.abspath(folder))


def check_names(folders: Sequence[Path | str], refusal: type[BreastUSAIError]) -> None:
    """Raises `refusal` where two of the folders have one name, or one of several has the name of all together."""
    names = [name_of(folder) for folder in folders]
    for number, (folder, name) in enumerate(zip(folders, names, strict=True)):
        if name in names[:number]:
            first = folders[names.index(name)]
            raise refusal(
                f"the data sets {first} and {folder} have one name, by which figures tell them apart; give folders with different names."
            )
    if len(names) > 1 and TOGETHER in names:
        raise refusal(
            f"the data set {folders[names.index(TOGETHER)]} has the name {TOGETHER!r}, which is what all data sets together are called; "
            "rename its folder."
        )
