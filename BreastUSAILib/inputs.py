"""What a person names on the command line, as a list of image files with a result folder for each."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

RUN = "run.json"
RUN_SCHEMA = "breastusai/run/1.0"

_LONGEST_NAME = 100  # bytes; room for suffixes below the 255 of most file systems
_RESERVED = ("run.json", "summary.csv", "index.html", "con", "prn", "aux", "nul")
_WILDCARDS = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """One image file to work on.

    Attributes
    ----------
    path : absolute.
    shown : the path as the user named it, for messages.
    within : the path inside the folder that the user named, or the bare file name; result folders are named after it.
    """

    path: Path
    shown: str
    within: Path


@dataclass(frozen=True)
class Inputs:
    """What was found.

    Attributes
    ----------
    sources : in the order named, those of a folder sorted; each file once.
    left : files in the folders that are no images.
    failures : (what the user named, sentence) for what does not exist or cannot be listed.
    """

    sources: tuple[Source, ...]
    left: tuple[Path, ...]
    failures: tuple[tuple[str, str], ...]


def find_inputs(names: Sequence[str], output: Path) -> Inputs:
    """Expand files, folders (with all below) and wildcard patterns.

    A file that is named is an input whatever it is; from folders and patterns only image files are taken. The output
    folder and the results of other runs are not looked into.
    """
    sources: dict[Path, Source] = {}
    left: list[Path] = []
    failures: list[tuple[str, str]] = []
    output = Path(os.path.abspath(output))

    def add(path: Path, shown: Path, within: Path) -> None:
        path = Path(os.path.abspath(path))
        sources.setdefault(path, Source(path, str(shown), within))

    def add_folder(folder: Path) -> None:
        before = len(sources)
        images, others, problems = _walk(folder, output)
        for path in images:
            add(path, path, path.relative_to(folder))
        left.extend(others)
        failures.extend(problems)
        if not images and not problems and len(sources) == before:
            failures.append((str(folder), f"{folder} has no image files in it; give a folder with images."))

    for name in names:
        path = Path(name)
        if os.path.isdir(path):  # Path.is_dir raises where it may not look, or where the name is too long
            add_folder(path)
        elif os.path.lexists(path) or not _WILDCARDS.search(name):
            add(path, path, Path(path.name))  # one that does not exist fails when it is read, with its own sentence
        else:
            matches = sorted(Path(m) for m in glob.glob(name, recursive=True))
            if not matches:
                failures.append((name, f"{name} matches no file; check the pattern."))
            for match in matches:
                if _is_results(match, output) or any(_is_results(p, output) for p in match.parents):
                    continue
                if os.path.isdir(match):
                    # ** names each folder and all that is in it: the files come by themselves.
                    if "**" not in name:
                        add_folder(match)
                elif _is_image(match):
                    add(match, match, Path(match.name))
                else:
                    left.append(match)
    others = (path for path in dict.fromkeys(left) if Path(os.path.abspath(path)) not in sources)
    return Inputs(tuple(sources.values()), tuple(others), tuple(failures))


def _walk(folder: Path, output: Path) -> tuple[list[Path], list[Path], list[tuple[str, str]]]:
    """Image files, other files, and folders that cannot be listed, sorted, below a folder."""
    images: list[Path] = []
    others: list[Path] = []
    problems: list[tuple[str, str]] = []

    def note(error: OSError) -> None:
        reason = error.strerror or str(error)
        problems.append((str(error.filename), f"{error.filename} cannot be listed ({reason}); check its permissions."))

    if Path(os.path.abspath(folder)) == output:
        return [], [], [(str(folder), f"{folder} is the output folder as well; choose another folder for --output.")]
    if _is_results(folder, output):
        return [], [], [(str(folder), f"{folder} holds results, not images; give the folder with the images.")]
    for here, folders, files in os.walk(folder, onerror=note):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not _is_results(Path(here, f), output))
        for name in sorted(files):
            path = Path(here, name)
            if _is_image(path):
                images.append(path)
            elif not name.startswith("."):
                others.append(path)
    return images, others, problems


def _is_image(path: Path) -> bool:
    """Whether a file that was come across is an input; one that cannot be looked at is: reading it says why not."""
    from .image import is_image_file

    try:
        return is_image_file(path)
    except OSError:
        return True


def _is_results(folder: Path, output: Path) -> bool:
    """Whether a folder is where this or another run wrote, so that no run takes results for images."""
    return Path(os.path.abspath(folder)) == output or bool(read_run(folder))


def read_run(folder: Path) -> Mapping:
    """The run.json of a folder of results; empty when there is none that can be read."""
    try:
        data = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) and data.get("schema") == RUN_SCHEMA else {}


def name_folders(sources: Iterable[Source], taken: Mapping[str, str]) -> dict[Path, str]:
    """A folder of results for each source: unique, readable, and the same when the run is repeated.

    The name is the file's, without its suffix (``a/b.png`` below the named folder: ``a_b``). Sources whose names would
    clash all take longer ones: with the suffix, then with the folder's name, at last with a hash of the path.

    Parameters
    ----------
    sources : what needs names.
    taken : folder name -> absolute path of its source, from earlier runs into the same output. A source keeps its name.

    Returns
    -------
    dict : absolute path -> folder name.
    """
    names: dict[Path, str] = {}
    earlier = {path: name for name, path in taken.items()}
    waiting = []
    for source in sources:
        if str(source.path) in earlier:
            names[source.path] = earlier[str(source.path)]
        else:
            waiting.append(source)
    used = {name.casefold() for name in (*taken, *_RESERVED)}
    for level in range(4):
        wanted: dict[str, list[Source]] = {}
        for source in waiting:
            wanted.setdefault(_name(source, level).casefold(), []).append(source)
        waiting = []
        for key, claimants in wanted.items():
            if key in used or (len(claimants) > 1 and level < 3):
                waiting += claimants
                continue
            used.add(key)
            names[claimants[0].path] = _name(claimants[0], level)
    return names


def _name(source: Source, level: int) -> str:
    parts = list(source.within.parts)
    stem, suffix = _split(parts[-1])
    parts[-1] = stem
    if level >= 1 and suffix:
        parts[-1] += suffix.replace(".", "_")
    if level >= 2 and len(source.path.parts) > len(source.within.parts) + 1:
        parts.insert(0, source.path.parts[-len(source.within.parts) - 1])
    digest = hashlib.sha256(os.fsencode(source.path)).hexdigest()[:8]
    # Characters that some file system refuses; what no text can hold; names that end in a dot or a space.
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]', "_", "_".join(parts)).strip(". ") or "image"
    if len(name.encode()) > _LONGEST_NAME:
        name = f"{name.encode()[:_LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"
    return f"{name}-{digest}" if level >= 3 else name


def _split(name: str) -> tuple[str, str]:
    """``a.nii.gz`` -> ("a", ".nii.gz"); digits after a dot are part of the name (``1.2.840.113619``)."""
    match = re.fullmatch(r"(.+?)(\.nii\.gz|\.[A-Za-z][A-Za-z0-9]{0,7})", name, re.IGNORECASE)
    return (match[1], match[2]) if match else (name, "")
