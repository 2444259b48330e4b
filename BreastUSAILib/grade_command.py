"""``breastusai grade``: grade the lesions of one image, and write them as a study."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from . import RESEARCH_USE
from .errors import DataError
from .grade_terms import stated_category
from .models.devices import NAMES as DEVICES
from .progress import add_progress_arguments, show_progress

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .findings import Finding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Malignancy, BI-RADS category, solid nodule or not, and descriptors of the lesions of an image. A 2D image's lesions are found "
        "and outlined first, unless --findings names a result; those of a volume must be given."
    )
    parser.add_argument("input", type=Path, metavar="IMAGE", help="a 2D image, or an ABUS volume")
    parser.add_argument("--output", "-o", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--findings",
        type=Path,
        metavar="DIR",
        help="result of an earlier run for this image, whose findings are graded",
    )
    models = parser.add_argument_group("models (ids of models that ship, or folders of your own; one at least)")
    models.add_argument("--gcnn", metavar="ID|DIR", help="BI-RADS category and descriptors")
    models.add_argument("--mtnet", metavar="ID|DIR", help="malignancy")
    models.add_argument("--snnet", metavar="ID|DIR", help="solid nodule or not")
    models.add_argument(
        "--model", default="", metavar="ID|DIR", help="the segmentation of 2D images; default: the one that ships"
    )
    parser.add_argument("--no-maps", action="store_true", help="Mt-Net and Sn-Net without each other's activation maps")
    parser.add_argument("--one-crop", action="store_true", help="one look at each lesion instead of several: faster")
    parser.add_argument("--device", choices=DEVICES, default="auto", help="where the networks run (default: auto)")
    parser.add_argument(
        "--spacing",
        nargs=3,
        type=float,
        metavar=("X", "Y", "Z"),
        help="mm of a voxel, where the file is silent or wrong",
    )
    add_progress_arguments(parser)


def main(args: argparse.Namespace) -> int:
    from .files import write_study
    from .image import read_image
    from .inputs import Source, name_folders
    from .models.zoo import read_verified, resolve
    from .workup import GradingOptions, run_grading

    options = GradingOptions(
        args.gcnn, args.mtnet, args.snnet, args.model, args.device, enhance=not args.no_maps, several=not args.one_crop
    )
    # A model that is not there is told at once, before PyTorch is imported and the image is read.
    for task, name in options.models().items():
        read_verified(*resolve(name, task))
    with show_progress(args.progress, args.quiet) as (progress, log):
        progress(0.0, "reading")
        loaded = read_image(args.input, spacing_mm=args.spacing)
        findings = None if args.findings is None else _found(args.findings, loaded.image, args.input)
        study = run_grading(
            loaded, findings, options, lambda fraction, message: progress(0.05 + 0.9 * fraction, message)
        )
        source = Source(args.input.absolute(), str(args.input), Path(args.input.name))
        folder = args.output / name_folders([source], {})[source.path]
        write_study(study, folder)
        progress(1.0, "done")
        for finding in study.findings:
            log(sentence(finding))
        for note in study.provenance["notes"]:
            log(f"Note: {note}.")
        log(f"{study.summary} Results: {folder}")
        log(RESEARCH_USE)
    return 0


def sentence(finding: Finding) -> str:
    """A finding's grade in one line, and its notes below."""
    parts = [finding.id]
    if finding.malignancy is not None:
        parts.append(f"malignancy {finding.malignancy:.2f}")
    if finding.birads:
        category = stated_category(finding.birads)
        parts.append(f"BI-RADS {category} ({finding.birads[category]:.2f})")
    if finding.solid_nodule is not None:
        parts.append(f"solid nodule {finding.solid_nodule:.2f}")
    return "\n".join(["  ".join(parts), *(f"    {note}" for note in finding.notes)])


def _found(folder: Path, image: sitk.Image, path: Path) -> tuple[Finding, ...]:
    """The findings of an earlier result. DataError where it is of another image."""
    from .files import read_study

    study = read_study(folder)
    if study.image.size != image.GetSize():
        raise DataError(
            f"{folder} is about an image of {study.image.size} pixels, {path} has {image.GetSize()}; name the result of this image."
        )
    return study.findings
