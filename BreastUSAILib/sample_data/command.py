"""``breastusai samples``: list the sample images, or copy them to a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..atomic import write_bytes
from . import sample, sample_path, samples, truth_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="SAMPLE", help="which (default: all)")
    parser.add_argument("--output", "-o", type=Path, metavar="DIR", help="copy them here")
    parser.add_argument("--truth", action="store_true", help="copy the label maps of the lesions as well")


def main(args: argparse.Namespace) -> int:
    chosen = [sample(name) for name in args.names] or samples()
    width = max(len(entry.id) for entry in chosen)
    for entry in chosen:
        if args.output is None:
            cite = f" Cite: {entry.cite}" if entry.cite else ""
            print(f"{entry.id.ljust(width)}  {entry.description} Licence: {entry.licence}.{cite}")
            continue
        print(write_bytes(args.output / entry.file, sample_path(entry.id).read_bytes()))
        if args.truth and entry.truth:
            # Slicer opens it as a segmentation, and `run` does not take it for an image of the folder.
            name = f"{Path(entry.truth).stem}.seg.nrrd"
            print(write_bytes(args.output / name, truth_path(entry.id).read_bytes()))
    return 0
