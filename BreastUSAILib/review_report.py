"""The report of a workup that a person went through: the files of a run, with what was said of the findings."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import SimpleITK as sitk

from .atomic import output_error
from .findings import Study
from .review import Review, with_reviews


def report_folders(folder: Path, names: Sequence[str]) -> list[Path]:
    """A folder of its own for each image, called like it; images of the same name are numbered."""
    taken: set[str] = set()
    folders = []
    for name in names:
        stem = re.sub(r"[^\w.-]+", "_", name)[:80].strip("._") or "image"
        free, number = stem, 2
        while free.lower() in taken:  # also on disks that do not tell A from a
            free, number = f"{stem}_{number}", number + 1
        taken.add(free.lower())
        folders.append(Path(folder) / free)
    return folders


def write_reviewed(study: Study, image: sitk.Image, reviews: Mapping[str, Review], folder: Path) -> Path:
    """Write report.html and all other files of a run except the scene; returns the report's path.

    Parameters
    ----------
    study : as it is in the scene now; its masks lie on the grid of `image`.
    reviews : finding -> what a person said.
    folder : where to; older results of ours there are replaced, other files stay.

    Raises
    ------
    OutputError : a file cannot be written.
    """
    from .report import REPORT
    from .run_input import move_results, write_results

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=folder.parent))
    except OSError as error:
        raise output_error(folder, error) from error
    try:
        # A folder that others may read, as `mkdtemp` makes none.
        results = temporary / "results"
        results.mkdir()
        write_results(with_reviews(study, reviews), image, results, scene=False)
        move_results(results, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / REPORT
