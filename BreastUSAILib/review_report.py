"""The report of a workup that a person went through: the files of a run, with what was said of the findings."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from .atomic import output_error
from .errors import DataError
from .findings import Study
from .identity import pixels_digest
from .review import Review, with_reviews

REPORTED = "reported"  # in a report's provenance: of which pixels it is
_PIXELS = "pixels_sha256"


def with_pixels(study: Study, image: sitk.Image) -> Study:
    """The study with the SHA-256 of the pixels that are reported, by which `report_folder` knows its folder again."""
    return replace(study, provenance={**study.provenance, REPORTED: {_PIXELS: pixels_digest(image)}})


def report_folder(folder: Path, name: str, study: Study, taken: Collection[str] = ()) -> tuple[Path, tuple[Path, ...]]:
    """Where the report of an image goes: a folder called like it, and numbered on where that holds another image's report.

    Names of images repeat from patient to patient; a report must never take the place of another patient's. Where nobody can tell
    of which image a report is, it is taken for another's.

    Parameters
    ----------
    folder : the folder of reports.
    name : of the image.
    study : what is reported, as `with_pixels` made it.
    taken : names of folders that other images of the same export have, in lower case.

    Returns
    -------
    the folder, and the folders of that name that were passed over as they hold reports of other images, or files that are no report.

    Raises
    ------
    OutputError : what lies there cannot be looked at.
    """
    stem = re.sub(r"[^\w.-]+", "_", name)[:80].strip("._") or "image"
    others = []
    for number in count(1):
        free = stem if number == 1 else f"{stem}_{number}"
        if free.lower() in taken:  # also on disks that do not tell A from a
            continue
        if not _is_of_other(Path(folder) / free, study):
            break
        others.append(Path(folder) / free)
    return Path(folder) / free, tuple(others)


def _is_of_other(folder: Path, study: Study) -> bool:
    """Whether a folder holds the report of another image, or of one that nobody knows, or what is no report at all."""
    from .files import STUDY
    from .run_input import is_others

    try:
        found = Study.from_json((folder / STUDY).read_text(encoding="utf-8"), source=str(folder / STUDY))
    except (FileNotFoundError, NotADirectoryError):
        return is_others(folder)  # nothing, a report of ours that was never finished, or what somebody else keeps there
    except OSError as error:
        raise output_error(folder / STUDY, error) from error
    except (UnicodeDecodeError, DataError):
        return True
    return not _pixels(found.provenance) & _pixels(study.provenance)


def _pixels(provenance: Mapping[str, Any]) -> set[str]:
    """What tells the image of a study: its pixels as they were reported, and as the analysis read them."""
    kept = (provenance.get(part) for part in (REPORTED, "input"))
    return {k[_PIXELS] for k in kept if isinstance(k, Mapping) and isinstance(k.get(_PIXELS), str)}


def write_reviewed(study: Study, image: sitk.Image, reviews: Mapping[str, Review], folder: Path) -> Path:
    """Write report.html and all other files of a run except the scene; returns the report's path.

    Parameters
    ----------
    study : as it is in the scene now; its masks lie on the grid of `image`.
    reviews : finding -> what a person said.
    folder : where to; older results of ours there are replaced, other files stay.

    Raises
    ------
    OutputError : a file cannot be written, or one that is not ours would be replaced.
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
