"""What a person names on the command line, as a list of image files with a result folder for each."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

RUN = "run.json"
OWN = ".run"  # in the output folder: what belongs to the run that is going on
RUN_SCHEMA = "breastusai/run/1.0"
OWN_RESULT = "a result of BreastUSAI, not an image of a scanner"
OF_A_RUN = "a folder with the results of a run, which is not looked into"

OVERVIEW = ("run.json", "summary.csv", "studies.csv", "failures.csv", "studies.parquet", "findings.parquet", "index.html")  # of a run

_LONGEST_NAME = 100  # bytes; room for suffixes below the 255 of most file systems
_RESERVED = (*OVERVIEW, "con", "prn", "aux", "nul")
_STUDY_SCHEMA = "breastusai/study/"
_SEGMENTATIONS = (".seg.nrrd", ".seg.nhdr")
_WILDCARDS = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Source:
    """One image file to work on.

    Attributes
    ----------
    path : absolute.
    shown : the path as the user named it, for messages.
    within : the path inside the folder that the user named, or the bare file name; result folders are named after it.
    files : all files, absolute, of a volume that is a series of DICOM files (`path` is their first); else empty.
    trouble : why it cannot be worked on, where that is known before it is read; a sentence, or "".
    """

    path: Path
    shown: str
    within: Path
    files: tuple[Path, ...] = ()
    trouble: str = ""

    @property
    def series_in(self) -> tuple[str, ...]:
        """The folders that hold `files`, one after the other."""
        return tuple(dict.fromkeys(str(file.parent) for file in self.files))


@dataclass(frozen=True)
class Found:
    """A part of what was found: what one folder holds, or the files that were named one after the other.

    Attributes
    ----------
    sources : the image files, sorted where a folder was searched.
    left : files in the folders that are no images, or none to work on.
    failures : (what the user named, sentence) for what does not exist or cannot be listed.
    reasons : (path, phrase) for those of `left` that are DICOM files, or folders of results: why they are none to work on.
    results : those of `left` that BreastUSAI wrote beside a study.json.
    runs : folders that were come to and not looked into, as another run wrote its results there; images that lie in them are not found.
    """

    sources: tuple[Source, ...] = ()
    left: tuple[Path, ...] = ()
    failures: tuple[tuple[str, str], ...] = ()
    reasons: tuple[tuple[Path, str], ...] = ()
    results: tuple[Path, ...] = ()
    runs: tuple[Path, ...] = ()


def discover(names: Sequence[str], output: Path) -> Iterator[Found]:
    """Expand files, folders (with all below) and wildcard patterns, folder by folder, as the search goes on.

    A file that is named is an input whatever it is; from folders and patterns only image files are taken; each file comes
    once, by whatever links to folders it is come to, and these are followed (`_Links`). The output folder and the results of other runs are not
    looked into; beside a study.json the files that BreastUSAI wrote there are left (`_Results`). In the output folder a pattern finds what is no
    result (`_Runs`). Only the folder that is being read is held in memory; where several things are named, so is the name of every file.
    """
    output = Path(os.path.abspath(output))
    if len(names) == 1 and not _WILDCARDS.search(names[0]):
        yield from _search(names, output)
        return
    place = _Places()
    seen: dict[Path, tuple[Path, ...]] = {}  # and the series that it begins
    passed: set[Path] = set()  # what is no image; it may still be named itself later
    for found in _search(names, output):
        sources: dict[Path, Source] = {}
        clashes = []
        for source in found.sources:
            here, files = place(source.path), tuple(map(place, source.files))
            if here not in seen:
                seen[here] = files
                sources[here] = source
            elif seen[here] != files:
                clashes.append((source.shown, _clash(source, seen[here])))
        left = [path for path in found.left if place(path) not in seen and place(path) not in passed]
        runs = tuple(folder for folder in found.runs if place(folder) not in passed)
        passed.update(map(place, (*left, *runs)))
        kept = set(left)
        results = tuple(path for path in found.results if path in kept)
        yield Found(tuple(sources.values()), tuple(left), (*found.failures, *clashes), found.reasons, results, runs)


class _Places:
    """Where a file lies, with links to folders resolved; one that is a link itself is a file of its own. Each folder is looked up once."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}

    def __call__(self, path: Path) -> Path:
        folder, name = os.path.split(os.path.abspath(path))
        if folder not in self._folders:
            self._folders[folder] = Path(os.path.realpath(folder))
        return self._folders[folder] / name


def _clash(source: Source, before: Sequence[Path]) -> str:
    """A file is one image, or begins one series: its results have one folder."""
    now, then = (f"the first of a series of {len(files)} files" if files else "an image by itself" for files in (source.files, before))
    return f"{source.shown} is {now} here and was {then} before in the same command; name the folder of the series alone, or the file alone."


def _search(names: Sequence[str], output: Path) -> Iterator[Found]:
    files: list[Source] = []  # named one after the other: their folders are named together
    for name in names:
        if not name:  # an unset variable of a script: Path would take it for the folder that one is in
            sentence = "An input is named by an empty text; name a file, or a folder (. is the one that you are in)."
            yield Found(failures=((name, sentence),))
            continue
        path = Path(name)
        # Path.is_dir raises where it may not look, or where the name is too long.
        if path.name.upper() == "DICOMDIR" and os.path.isfile(path):
            yield _listed(path)
            continue
        if not os.path.isdir(path) and (os.path.lexists(path) or not any(map(_WILDCARDS.search, _split_pattern(name)[1]))):
            files.append(_source(path, Path(path.name)))  # one that does not exist fails when it is read
            continue
        if files:
            yield Found(tuple(files))
            files = []
        yield from _walk(path, output) if os.path.isdir(path) else _matches(name, output)
    if files:
        yield Found(tuple(files))


def _source(path: Path, within: Path, files: Sequence[Path] = ()) -> Source:
    return Source(Path(os.path.abspath(path)), str(path), within, tuple(Path(os.path.abspath(file)) for file in files))


def _sort_out(images: Sequence[Path], folder: Path | None = None) -> tuple[list[Source], tuple[tuple[Path, str], ...]]:
    """Image files as sources, DICOM series together; and the DICOM files that are none to work on. folder: as the user named it."""
    from .dicom_series import sort_out

    found = sort_out(images)
    sources = [
        _source(i.path, Path(i.path.name) if folder is None else i.path.relative_to(folder), i.files)
        for i in found.inputs
    ]
    return sources, found.skipped


def _listed(dicomdir: Path) -> Found:
    """The ultrasound images that a DICOMDIR lists."""
    from .dicom_series import find
    from .errors import BreastUSAIError

    try:
        found = find(dicomdir)
    except BreastUSAIError as error:
        return Found(failures=((str(dicomdir), str(error)),))
    sources = [_source(i.path, i.path.relative_to(dicomdir.parent), i.files) for i in found.inputs]
    none = () if sources else ((str(dicomdir), f"{dicomdir} lists no ultrasound image; give another medium."),)
    return Found(tuple(sources), tuple(path for path, _ in found.skipped), none, found.skipped)


def _split_pattern(name: str) -> tuple[Path, tuple[str, ...]]:
    """The folders at the beginning of a pattern that are there as they are written, whatever characters they have, and the parts that remain."""
    parts, base = Path(name).parts, Path()
    there = 0
    while there < len(parts) and os.path.lexists(base / parts[there]):
        base, there = base / parts[there], there + 1
    rest = parts[there:]
    if rest and rest[-1] != "**" and name.endswith((os.sep, os.altsep or os.sep)):
        rest += ("",)  # folders alone
    return base, rest


def _matches(name: str, output: Path) -> Iterator[Found]:
    """What a pattern matches."""
    base, rest = _split_pattern(name)
    runs, problems = _Runs(base, output), []
    matches = sorted(set(_expand(base, rest, runs, _noting(problems))))
    # ** (or any name below it) names each folder and all that is in it: the files come by themselves.
    all_below = rest[-1] == "**" or rest[-2:] == ("**", "*")
    images, left, ours, results = [], [], [], _Results()
    any_source = any_result = False
    into = None  # the output folder, where it matches itself
    for match in matches:
        is_folder = os.path.isdir(match)
        if runs.hold(match, is_folder):
            any_result = True
            into = match if is_folder and Path(os.path.abspath(match)) == output else into
            continue
        if is_folder:
            for found in () if all_below else _walk(match, output):
                any_source = any_source or bool(found.sources or found.failures)  # it says itself that it has none
                yield found
        elif results.hold(match):
            ours.append(match)
        elif _is_image(match):
            images.append(match)
        else:
            left.append(match)
    sources, reasons = _sort_out(images)
    left += [*ours, *(path for path, _ in reasons)]
    failures = tuple(dict.fromkeys(problems))
    if not (any_source or sources or failures):
        sentence = f"{name} matches no {'image ' if matches else ''}file; check the pattern."
        if into is not None:
            sentence = _is_output(into)
        elif ours or any_result or runs.hold(base, True):
            sentence = f"{name} matches results, not images; give a pattern of the images."
        failures = ((name, sentence),)
    yield Found(tuple(sources), tuple(left), failures, reasons, tuple(ours), tuple(runs.others))


def _expand(base: Path, rest: Sequence[str], runs: _Runs, note: Callable[[OSError], None]) -> Iterator[Path]:
    """What matches the parts `rest` of a pattern in the folder `base`. ** stands for what is searched where a folder is named (`_walk`): no
    link leads around in a circle, and results are not looked into."""
    if "**" not in rest:
        yield from map(Path, glob.glob(os.path.join(glob.escape(str(base)), *rest)))
        return
    first = rest.index("**")
    after = next((k for k in range(first, len(rest)) if rest[k] != "**"), len(rest))  # several in a row are as one
    for head in _expand(base, rest[:first], runs, note) if first else [base]:
        if not os.path.isdir(head):
            continue
        if runs.hold(head, True):
            if not first:  # what lies right in the folder that the pattern begins with was named
                yield from _expand(head, rest[after:] or ("*",), runs, note)
            continue
        links = _Links(head, runs.output)
        for here, folders, _ in os.walk(head, onerror=note, followlinks=True):
            shown = sorted(f for f in folders if not f.startswith("."))
            folders[:] = [f for f in shown if not runs.hold(Path(here, f), True) and links.lead_on(Path(here, f))]
            yield from _expand(Path(here), rest[after:] or ("*",), runs, note)


class _Runs:
    """What of that which a pattern matches was written by this or another run, so that no run takes results for images.

    What lies right in `base`, or above it, was named as it is and is none. Images may lie in the output folder, too (``run 'img/*.png' --output .``):
    results are the folders in it that hold some. Each folder is looked at once.
    """

    def __init__(self, base: Path, output: Path) -> None:
        self._base, self.output = base, output
        self._known: dict[Path, bool] = {}
        self.others: list[Path] = []  # folders of other runs

    def hold(self, match: Path, is_folder: bool) -> bool:
        """Whether a match is a folder of results, or lies in one."""
        if is_folder:
            return (match != self._base and Path(os.path.abspath(match)) == self.output) or self._in_results(match)
        return match.parent != self._base and self._in_results(match.parent)

    def _in_results(self, folder: Path) -> bool:
        if folder not in self._known:
            above = folder not in (self._base, folder.parent) and self._in_results(folder.parent)
            self._known[folder] = above or self._is_one(folder)
        return self._known[folder]

    def _is_one(self, folder: Path) -> bool:
        from .run_input import is_ours

        here = Path(os.path.abspath(folder))
        if here == self.output:
            return False
        if here.parent == self.output and (here.name == OWN or is_ours(here)):
            return True
        if not read_run(folder):
            return False
        self.others += _told(folder, self.output)
        return True


def _walk(folder: Path, output: Path) -> Iterator[Found]:
    """What is below a folder, one folder at a time."""
    if Path(os.path.abspath(folder)) == output:
        yield Found(failures=((str(folder), _is_output(folder)),))
        return
    if _is_results(folder, output):
        yield Found(failures=((str(folder), _holds_results(folder)),))
        return
    problems: list[tuple[str, str]] = []
    images = failures = of_ours = 0
    links, results = _Links(folder, output), _Results()
    for here, folders, files in os.walk(folder, onerror=_noting(problems), followlinks=True):
        runs, inner = [], []
        for name in sorted(f for f in folders if not f.startswith(".")):  # the order decides which of several links are followed
            if _is_results(Path(here, name), output):
                runs += _told(Path(here, name), output)
            elif links.lead_on(Path(here, name)):
                inner.append(name)
        folders[:] = inner
        found, left, ours = [], [], []
        for name in sorted(files):
            path = Path(here, name)
            if results.hold(path):
                ours.append(path)
            elif _is_image(path):
                found.append(path)
            elif not name.startswith("."):
                left.append(path)
        sources, reasons = _sort_out(found, folder)
        left += [*ours, *(path for path, _ in reasons)]
        images += len(sources)
        failures += len(problems)
        of_ours += len(ours) + len(runs)
        if sources or left or problems or runs:
            yield Found(tuple(sources), tuple(left), tuple(problems), reasons, tuple(ours), tuple(runs))
        problems.clear()
    if problems:
        yield Found(failures=tuple(problems))
    elif not images and not failures and of_ours:
        yield Found(failures=((str(folder), _holds_results(folder)),))
    elif not images and not failures:
        sentence = f"{folder} has no image files in it; give a folder with images."
        yield Found(failures=((str(folder), sentence),))


def _noting(problems: list[tuple[str, str]]) -> Callable[[OSError], None]:
    def note(error: OSError) -> None:
        reason = error.strerror or str(error)
        problems.append((str(error.filename), f"{error.filename} cannot be listed ({reason}); check its permissions."))

    return note


def _is_output(folder: Path) -> str:
    return f"{folder} is the output folder as well; choose another folder for --output."


def _holds_results(folder: Path) -> str:
    return f"{folder} holds results, not images; give the folder with the images."


class _Links:
    """Which folders are looked into in a search: none that a link leads to and the search comes to by itself, and none that a link led to before.

    The search comes by itself to what lies below its folder, or below one that a link led to; not to hidden folders, nor to those of results.
    """

    def __init__(self, folder: Path, output: Path) -> None:
        self._root = Path(os.path.realpath(folder))
        self._starts = {self._root}  # and what links led to
        self._output = output
        self._passed_over: dict[Path, bool] = {}

    def lead_on(self, folder: Path) -> bool:
        """Whether to look into a folder, which may be a link; asked once of each, in the order of their names."""
        if not (os.path.islink(folder) or getattr(os.path, "isjunction", lambda _: False)(folder)):  # Windows has both
            return len(self._starts) == 1 or Path(os.path.realpath(folder)) not in self._starts
        target = Path(os.path.realpath(folder))
        # A folder that holds the root would lead around in a circle.
        if self._comes_to(target) or self._root.is_relative_to(target):
            return False
        self._starts.add(target)
        return True

    def _comes_to(self, target: Path) -> bool:
        for start in (target, *target.parents):
            if start in self._starts:
                return True
            if self._is_passed_over(start):
                return False
        return False

    def _is_passed_over(self, folder: Path) -> bool:
        if folder not in self._passed_over:
            self._passed_over[folder] = folder.name.startswith(".") or _is_results(folder, self._output)
        return self._passed_over[folder]


def _is_image(path: Path) -> bool:
    """Whether a file that was come across is an input; one that cannot be looked at is, and so is a link with an image's name whose file is
    missing: reading it says why not."""
    from .image import IMAGE_SUFFIXES, is_image_file

    try:
        if is_image_file(path):
            return True
    except OSError:
        return True
    name = path.name.lower()
    return _is_broken_link(path) and not name.startswith(".") and name.endswith(IMAGE_SUFFIXES) and not name.endswith(_SEGMENTATIONS)


def _is_broken_link(path: Path) -> bool:
    return os.path.islink(path) and not os.path.exists(path)


def why_left(path: Path) -> str:
    """Why a file of a folder that is neither DICOM nor a result (`Found`) is no input, as a phrase; by its name, as that decided."""
    if path.name.lower().endswith(_SEGMENTATIONS):
        return "a segmentation, which belongs to another image"
    if _is_broken_link(path):
        return "a link to a file that does not exist"
    return "no image by its name, nor DICOM by its content"


class _Results:
    """Which files BreastUSAI wrote itself: those of its names beside a study.json. What else lies there may well be a user's image.

    Names decide first, so that a study.json is looked into only where something beside it has one of these names; of a folder that was just
    asked about it is remembered.
    """

    def __init__(self) -> None:
        from .files import STUDY
        from .run_input import own_files

        self._names, self._study = frozenset(own_files()), STUDY
        self._folder: tuple[Path, bool] | None = None

    def hold(self, path: Path) -> bool:
        if path.name not in self._names:
            return False
        if self._folder is None or self._folder[0] != path.parent:
            self._folder = (path.parent, is_study(path.parent / self._study))
        return self._folder[1]


def is_study(path: Path) -> bool:
    """Whether a file is a study.json of ours, of whatever version; its first bytes say so, unless another program wrote it anew."""
    try:
        with path.open("rb") as stream:
            if re.search(rb'"schema"\s*:\s*"' + _STUDY_SCHEMA.encode(), stream.read(4096)):
                return True
        data = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(data, dict) and str(data.get("schema")).startswith(_STUDY_SCHEMA)


def _is_results(folder: Path, output: Path) -> bool:
    """Whether a folder is where this or another run wrote, so that no run takes results for images."""
    return Path(os.path.abspath(folder)) == output or bool(read_run(folder))


def _told(folder: Path, output: Path) -> list[Path]:
    """A folder of results as what the user is told of; none where it is this run's own."""
    return [] if os.path.realpath(folder) == os.path.realpath(output) else [folder]


def read_run(folder: Path) -> Mapping:
    """The run.json of a folder of results; empty when there is none that can be read."""
    try:
        data = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) and data.get("schema") == RUN_SCHEMA else {}


class FolderNames:
    """Gives each source a folder of results: a name that is unique, readable, and the same when the run is repeated.

    The name is the file's, without its suffix (``a/b.png`` below the named folder: ``a_b``). Sources of one batch whose
    names would clash all take longer ones, and so does one that meets a name of an earlier batch: with the suffix, then
    with the folder's name, at last with a hash of the path.

    Parameters
    ----------
    taken : folder name -> absolute path of its source, from earlier runs into the same output. A source keeps its name.
    others : names that nobody is given, as something that is no result of ours has them (`run_input.names_of_others`).
    """

    def __init__(self, taken: Mapping[str, str], others: Iterable[str] = ()) -> None:
        self._names = {path: name for name, path in taken.items()}
        self._used = {name.casefold() for name in (*taken, *others, *_RESERVED)}

    def give(self, source: Source, name: str) -> None:
        """Let a source have a folder from now on that it did not have; who had it has none any more."""
        self._names = {path: own for path, own in self._names.items() if own != name}
        self._used.add(name.casefold())
        self._names[str(source.path)] = name

    def of(self, batch: Iterable[Source]) -> dict[Path, str]:
        """Absolute path -> folder name, for sources that were found together."""
        names: dict[Path, str] = {}
        waiting = []
        for source in batch:
            if str(source.path) in self._names:
                names[source.path] = self._names[str(source.path)]
            else:
                waiting.append(source)
        for level in count():
            if not waiting:
                break
            wanted: dict[str, list[Source]] = {}
            for source in waiting:
                wanted.setdefault(_name(source, level).casefold(), []).append(source)
            waiting = []
            for key, claimants in wanted.items():
                if key in self._used or (len(claimants) > 1 and level < 3):
                    waiting += claimants
                    continue
                self._used.add(key)
                names[claimants[0].path] = self._names[str(claimants[0].path)] = _name(claimants[0], level)
        return names


def name_folders(sources: Iterable[Source], taken: Mapping[str, str], others: Iterable[str] = ()) -> dict[Path, str]:
    """A folder of results for each of some sources that are all known, as `FolderNames` gives them."""
    return FolderNames(taken, others).of(sources)


def _name(source: Source, level: int) -> str:
    parts = list(source.within.parts)
    stem, suffix = split_name(parts[-1])
    parts[-1] = stem
    if level >= 1 and suffix:
        parts[-1] += suffix.replace(".", "_")
    if level >= 2 and len(source.path.parts) > len(source.within.parts) + 1:
        parts.insert(0, source.path.parts[-len(source.within.parts) - 1])
    digest = hashlib.sha256(os.fsencode(source.path)).hexdigest()[:8]
    # Characters that some file system refuses; what no text can hold; names that end in a dot or a space.
    name = re.sub(r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]', "_", "_".join(parts)).strip(". ") or "image"
    name = re.sub(r"^[=+@-]", "_", name)  # what a spreadsheet takes for a formula stands otherwise in tables (`files.to_csv`), and would name no folder
    if len(name.encode()) > _LONGEST_NAME:
        name = f"{name.encode()[: _LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"
    if level > 3:  # a folder of somebody else's has even the name with the hash
        return f"{name}-{digest}-{level - 2}"
    return f"{name}-{digest}" if level == 3 else name


def split_name(name: str) -> tuple[str, str]:
    """``a.nii.gz`` -> ("a", ".nii.gz"); digits after a dot are part of the name (``1.2.840.113619``)."""
    match = re.fullmatch(r"(.+?)(\.nii\.gz|\.[A-Za-z][A-Za-z0-9]{0,7})", name, re.IGNORECASE)
    return (match[1], match[2]) if match else (name, "")
