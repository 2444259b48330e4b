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
from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from ..errors import DependencyError, OutputError, UsageError
from ..findings import Study
from ..grid import as_2d, from_2d
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
# What of a study's provenance says how it was computed; the rest says from what and when.
_KEPT = ("software", "models", "device", "seconds", "operating_point")
_SHORT = 3  # letters; shorter parts of names stand in ordinary words


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
    provenance |= {"options": clean(named), "notes": clean(list(study.provenance.get("notes", ())))}
    findings = tuple(replace(f, notes=tuple(clean(list(f.notes)))) for f in study.findings)
    image = replace(study.image, path=key.name("image", study.image.path))
    return replace(study, image=image, findings=findings, provenance=provenance)


def _identifying(study: Study, headers: Iterable[Dataset], files: Iterable[Path] = ()) -> list[str]:
    """Words that must not stand in any result, the longest first."""
    path = Path(study.image.path)
    words = {str(path), path.name, path.stem, *path.parts[1:]} if study.image.path else set()
    words |= {word for file in files for word in (file.name, file.stem)}
    for header in headers:
        for element in header.iterall():
            if element.VR in ("PN", "LO", "SH", "UI", "DA", "DT", "AE", "ST", "LT", "UC", "UT") and element.value:
                text = str(element.value)
                if element.VR == "UI" and text.startswith("1.2.840.10008."):
                    continue
                if element.keyword in ("CodeMeaning", "CodeValue", "CodingSchemeDesignator", "Manufacturer"):
                    continue
                words |= {text, *(re.split(r"[\^=\s]+", text) if element.VR == "PN" else ())}
    return sorted((w for w in words if len(w) > _SHORT), key=len, reverse=True)


def _without(text: str, words: Iterable[str]) -> str:
    for word in words:
        # Names of files join words by underscores, which are letters (\w) to regular expressions.
        text = re.sub(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", REMOVED, text, flags=re.IGNORECASE)
    return text


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
