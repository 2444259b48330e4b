"""De-identification after the Basic Application Level Confidentiality Profile (PS3.15, table E.1-1).

Results are made from a de-identified copy of the original's header, so that nothing of the patient can reach them; the table
is dicom-anonymizer's (KitwareMedical). What is ours, is cleaned here: names and paths of files, times, checksums, free text, and
the picture's surroundings, where scanners write names.

UIDs and identifiers become keyed hashes (HMAC-SHA-256): with one key the same patient, study and series stay the same
ones over all results, and without the key nobody can try names until one fits.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import uuid
import warnings
from collections.abc import Iterable, Mapping, MutableSequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from ..errors import DependencyError, OutputError, UsageError
from ..findings import REVIEWS, Study
from ..grade_terms import DOUBT, STATEMENTS, WARNINGS
from ..grid import as_2d, from_2d
from ..review import without_readers_words
from ..screen_area import find_screen_area
from .equipment import DUMMY_DATE
from .source import INSTALL

if TYPE_CHECKING:
    from pydicom import Dataset

EDITION = "dicomfields_2026c"  # of table E.1-1
METHOD = "PS3.15 E.1-1 (2026c) Basic Profile, BreastUSAI"  # at most 64 characters
REMOVED = "[removed]"
_DUMMY_YEAR = "0001"  # the library's, which validators refuse
_KEY_BYTES = 32
ALONE, SERIES, BESIDE = "", "series", "beside a series"
"""What one image is beside others of its path, for `pseudonym`: a file by itself, a series that goes by its first file, and that file by itself
where a series has its name."""
# What of a study's provenance says how it was computed; the rest says from what and when.
_KEPT = ("software", "models", "device", "seconds", "operating_point")
_SHORT = 3  # letters; words as short stand in ordinary text, but for parts of names, which begin with a capital
# How the project's own notes on findings begin, which readers of results tell them by; the same for every patient.
_OPENINGS = (*STATEMENTS, DOUBT, *WARNINGS, "The outline was ", "The box was ", "The reader's note")
_OWN_WORDS = ("BI-RADS", "Mt-Net", "Sn-Net")  # of which a part may be a short name: Bi, Net
_NAME_PARTS = r"[\^=\s\-'’.,]+"  # what parts a person's name into words
# Of patient and visit a result needs no more; the standard's table leaves what it does not list, such as birth dates in other calendars.
_KEPT_OF_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
_PATIENT_GROUPS = (0x0010, 0x0012, 0x0032, 0x0038, 0x0040)  # patient, trial, request, visit, procedure
_IDENTIFYING_GROUP = 0x0008
# The library leaves them, and people may write anything there.
_FREE_TEXT = ("PositionReferenceIndicator",)


@dataclass(frozen=True)
class Key:
    """The secret that pseudonyms are made with."""

    secret: bytes

    def digest(self, kind: str, value: object) -> bytes:
        return hmac.new(self.secret, f"{kind}\x1f{value}".encode("utf-8", "surrogatepass"), hashlib.sha256).digest()

    def uid(self, uid: str) -> str:
        """The pseudonym of a UID; well-known UIDs of the standard stay."""
        if not uid or uid.startswith("1.2.840.10008."):
            return uid
        return f"2.25.{uuid.UUID(bytes=self.digest('uid', uid)[:16], version=4).int}"

    def name(self, kind: str, value: object) -> str:
        """The pseudonym of anything else, ``kind-1a2b3c4d5e``."""
        return f"{kind}-{self.digest(kind, value).hex()[:10]}"


def read_key(path: Path | None) -> Key:
    """The key in a file, which is made where it is not there; None: a new one, which is forgotten.

    Raises
    ------
    UsageError : the file holds no key.
    OutputError : it cannot be read or made.
    """
    if path is None:
        return Key(secrets.token_bytes(_KEY_BYTES))
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Never to be read by others, not for a moment; and never two keys where two runs begin at once.
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
                stream.write(secrets.token_hex(_KEY_BYTES) + "\n")
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise OutputError(
            f"{path} cannot be used for the key ({error.strerror}); choose another --key-file."
        ) from error
    if not re.fullmatch(f"[0-9a-f]{{{2 * _KEY_BYTES}}}", text):
        raise UsageError(f"{path} holds no key; choose a name that does not exist yet, and the file is made.")
    return Key(bytes.fromhex(text))


def deidentified_headers(headers: Iterable[Dataset], key: Key) -> tuple[Dataset, ...]:
    """Copies of headers after the basic profile; the given ones stay as they are.

    Raises
    ------
    DependencyError : dicom-anonymizer is not installed.
    """
    try:
        from dicomanonymizer.dicomfields_selector import dicom_anonymization_database_selector
        from dicomanonymizer.simpledicomanonymizer import initialize_actions
    except ImportError as error:
        raise DependencyError(f"--anonymize needs the package dicom-anonymizer; install it with: {INSTALL}") from error
    actions = initialize_actions(EDITION)
    # References to other images are kept, with replaced UIDs (action U*), where the library would empty them.
    actions |= dict.fromkeys(dicom_anonymization_database_selector(EDITION)["X_Z_U_STAR_TAGS"], _keep)
    return tuple(_deidentified(header, actions, key) for header in headers)


def _deidentified(header: Dataset, actions: Mapping, key: Key) -> Dataset:
    from pydicom import Dataset

    patient = str(header.get("PatientID") or header.get("PatientName") or header.get("StudyInstanceUID"))
    header = deepcopy(header)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _apply(header, actions, key)
        _reduce(header)
    pseudonym = key.name("patient", patient)
    header.PatientID, header.PatientName = pseudonym, pseudonym
    # The profile lets the standard's own dummies stand for dates, which look like dates; nothing is what is known.
    for keyword in (
        "PatientBirthDate",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "StudyID",
        "ReferringPhysicianName",
    ):
        setattr(header, keyword, "")
    header.PatientIdentityRemoved = "YES"
    header.DeidentificationMethod = METHOD
    profile = Dataset()
    profile.CodeValue, profile.CodingSchemeDesignator = "113100", "DCM"
    profile.CodeMeaning = "Basic Application Confidentiality Profile"
    header.DeidentificationMethodCodeSequence = [profile]
    return header


def _apply(dataset: Dataset, actions: Mapping, key: Key) -> None:
    """Apply the table to a data set and to all items in it, which the library leaves to its caller."""
    from dicomanonymizer import anonymize_dataset

    rules = {tag: _keep for tag in actions if len(tag) == 2 and _is_uid(dataset, tag)}
    anonymize_dataset(dataset, rules, delete_private_tags=True, base_rules_gen=lambda: dict(actions))
    for element in list(dataset):
        if element.VR == "SQ":
            for item in element.value:
                _apply(item, actions, key)
        elif element.VR == "UI" and element.value:
            values = element.value if element.VM > 1 else [element.value]
            new = [key.uid(str(v)) for v in values]
            element.value = new if element.VM > 1 else new[0]
        elif element.VR in ("DA", "DT") and str(element.value).startswith(_DUMMY_YEAR):
            element.value = DUMMY_DATE


def _reduce(header: Dataset) -> None:
    """Take out what the table leaves and no result needs: of patient, request and procedure all but a few elements, and of items that
    say what the study was of or for all but UIDs, as codes of a hospital's own may mean anything."""
    for element in list(header):
        group = element.tag.group
        in_groups = group in _PATIENT_GROUPS and element.keyword not in _KEPT_OF_PATIENT
        if in_groups or element.keyword in _FREE_TEXT:
            del header[element.tag]
        elif group == _IDENTIFYING_GROUP and element.VR == "SQ":
            for item in element.value:
                _only_uids(item)
            if not any(len(item) for item in element.value):
                del header[element.tag]


def _only_uids(item: Dataset) -> None:
    for element in list(item):
        if element.VR != "UI":
            del item[element.tag]


def _is_uid(dataset: Dataset, tag: tuple[int, int]) -> bool:
    return tag in dataset and dataset[tag].VR == "UI"


def _keep(dataset: Dataset, tag) -> None:
    """UIDs are replaced with keyed ones afterwards; the library's are random in every process."""


def deidentified_study(study: Study, key: Key, headers: Iterable[Dataset] = (), files: Iterable[Path] = ()) -> Study:
    """The study without what says whose it is: file names and paths, times, checksums of the input, text about it.

    Parameters
    ----------
    study : also its findings' notes are cleaned.
    headers : the original's, not de-identified; their names and numbers are looked for in all text.
    files : all that the image was read from, where they are several: notes name them as well.
    """
    words = _identifying(study, headers, files)

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return _without(value, words)
        if isinstance(value, Mapping):
            return {k: clean(v) for k, v in value.items()}
        return [clean(v) for v in value] if isinstance(value, (list, tuple)) else value

    provenance = {k: v for k, v in study.provenance.items() if k in _KEPT}
    options = study.provenance.get("options", {})
    # Models may be named by their folders.
    named = {name: Path(value).name if isinstance(value, str) else value for name, value in options.items()}
    # The rest is of the software and its models: what stands there says nothing of the patient, also where a folder is called so.
    notes = [_unquoted(without_readers_words(note, REMOVED)) if isinstance(note, str) else note for note in study.provenance.get("notes", ())]
    provenance |= {"options": clean(named), "notes": clean(notes)}
    reviews = study.provenance.get(REVIEWS)
    if isinstance(reviews, Mapping):  # the verdicts alone: what was written beside them may name anybody
        provenance[REVIEWS] = {i: {"verdict": r.get("verdict", ""), "note": ""} for i, r in reviews.items() if isinstance(r, Mapping)}
    findings = tuple(replace(f, notes=tuple(_without_after_opening(without_readers_words(n, REMOVED), words) for n in f.notes)) for f in study.findings)
    image = replace(study.image, path=pseudonym(study, key))
    return replace(study, image=image, findings=findings, provenance=provenance)


def is_series(study: Study) -> bool:
    """Whether a study is of several files; False where it does not keep that (made in 3D Slicer, or by an older version)."""
    return study.provenance.get("input", {}).get("files", 1) > 1


def pseudonym(study: Study, key: Key, kind: str | None = None) -> str:
    """What a study's image is called in a copy: by its path, and by which image it is where the study keeps that (`identity.instance_digest`),
    as another patient's may have the same path on the next CD.

    A series and its first file by itself have path and image in common, so `kind` tells them apart: `ALONE`, `SERIES` or `BESIDE`; None: as the
    study says. In a folder of copies `copies.copy_of` says which.
    """
    if kind is None:
        kind = SERIES if is_series(study) else ALONE
    instance = study.provenance.get("input", {}).get("instance_sha256", "")
    return key.name("image", "\x1f".join([study.image.path, *([instance] if instance or kind else []), *([kind] if kind else [])]))


def _identifying(study: Study, headers: Iterable[Dataset], files: Iterable[Path] = ()) -> list[re.Pattern]:
    """What finds the words that must not stand in any result, the longest first."""
    path = Path(study.image.path)
    words = {str(path), path.name, path.stem, *path.parts[1:]} if study.image.path else set()
    words |= {word for file in files for word in (file.name, file.stem)}
    short: set[str] = set()
    for header in headers:
        for element in header.iterall():
            if element.VR in ("PN", "LO", "SH", "UI", "DA", "DT", "AE", "ST", "LT", "UC", "UT") and element.value:
                if element.VR == "UI" and str(element.value).startswith("1.2.840.10008."):
                    continue
                if element.keyword in ("CodeMeaning", "CodeValue", "CodingSchemeDesignator", "Manufacturer"):
                    continue
                values = _values(element.value)
                words |= {str(element.value), "\\".join(values), *values}
                if element.VR == "PN":
                    parts = {part for value in values for part in re.split(_NAME_PARTS, value)}
                    words |= parts
                    short |= {form for part in parts if len(part) <= _SHORT for form in _short_forms(part)}
    longest = sorted({w.strip() for w in words if len(w.strip()) > _SHORT}, key=len, reverse=True)
    return [*(_finder(w, re.IGNORECASE) for w in longest), *map(_short_finder, sorted(short, key=len, reverse=True))]


def _values(value: Any) -> list[str]:
    """The values of an element as text: of one that has several, each."""
    return [str(v) for v in value] if isinstance(value, MutableSequence) else [str(value)]


def _short_forms(part: str) -> set[str]:
    """How a short part of a name is written in text: with a capital, as without it may be any word; letters that have none, as they are."""
    if part.lower() == part.upper():
        return {part} if part.isalpha() else set()
    if len(part) < 2:
        return set()  # an initial
    return {part.title(), part.upper(), *({part} if part != part.lower() else ())}


def _finder(word: str, flags: int = 0) -> re.Pattern:
    """Finds a word in text, however the words in it are set apart (readers of headers squeeze white space)."""
    inner = r"\s+".join(re.escape(part) for part in word.split())
    # Names of files join words by underscores, which are letters (\w) to regular expressions.
    return re.compile(rf"(?<![^\W_]){inner}(?![^\W_])", flags)


def _short_finder(form: str) -> re.Pattern:
    """Finds a short part of a name in text, but not as a part of the project's own words."""
    halves = [word.split("-") for word in _OWN_WORDS]
    not_before = "".join(rf"(?!-{end}(?![^\W_]))" for start, end in halves if start == form)
    not_after = "".join(rf"(?<!(?<![^\W_]){start}-)" for start, end in halves if end == form)
    return re.compile(f"{not_after}{_finder(form).pattern}{not_before}")


def _without_after_opening(note: str, words: Iterable[re.Pattern]) -> str:
    """A finding's note without these words; what it begins with stays where that is the project's own."""
    opening = next((o for o in _OPENINGS if note.startswith(o)), "")
    return opening + _without(note[len(opening) :], words)


def _without(text: str, words: Iterable[re.Pattern]) -> str:
    for word in words:
        text = word.sub(REMOVED, text)
    return text


def _unquoted(note: str) -> str:
    """A note without what it quotes, which is a header's text, in whatever element that stood."""
    return re.sub(r'".*"', f'"{REMOVED}"', note, flags=re.DOTALL)


def without_surroundings(
    image: sitk.Image, area: tuple[int, int, int, int] | None, headers: Iterable[Dataset] = ()
) -> tuple[sitk.Image, tuple[str, ...]]:
    """Blacken what lies around the ultrasound picture of a 2D image or a volume of one slice, and say what is known of text in it.

    Parameters
    ----------
    image : any; only those of one slice, in 2D or in 3D, have surroundings. The grid stays.
    area : (x, y, width, height) of the picture in the slice where the file says so; None looks for it.
    headers : the original's, for what they say of burned-in text.

    Returns
    -------
    the image (a copy where something was blackened), and sentences.
    """
    stated = {str(h.get("BurnedInAnnotation") or "").upper() for h in headers}
    notes = []
    if "YES" in stated:
        notes.append("the original says that text is burned into its pixels")
    plane = as_2d(image)
    if plane is not None:
        if area is None:
            found = find_screen_area(plane)
            area = (*found.start, *found.size) if found.confident else None
        if area is not None and tuple(area[2:]) != plane.GetSize():
            x, y, width, height = area
            array = sitk.GetArrayFromImage(plane)
            black = array.min()
            inside = array[y : y + height, x : x + width].copy()
            array[...] = black
            array[y : y + height, x : x + width] = inside
            image = from_2d(sitk.GetImageFromArray(array), image)
            notes.append("the surroundings of the ultrasound picture were blackened; text inside the picture stays")
    if stated != {"NO"} and not notes:
        notes.append(
            "whether text is burned into the pixels is not known: look at the pictures before you pass them on"
        )
    return image, tuple(notes)
