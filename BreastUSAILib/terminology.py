"""The coded terms that a lesion carries, as plain data (no Slicer needed to read or write them).

Codes are SNOMED CT (scheme ``SCT``) as in DICOM PS3.16, CID 7150-7159 and Slicer's *Segmentation category and type -
DICOM master list*. A terminology entry is one string in Slicer; its seven parts are separated by ``~``, and each coded
part is ``scheme^value^meaning``::

    terminology context ~ category ~ type ~ type modifier ~ anatomic context ~ region ~ region modifier

Written into a ``.seg.nrrd`` or a segment's tags it is what Slicer, 3D Slicer's DICOM SEG export and dcmqi read.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Code:
    """One coded term: scheme (``SCT``, ``DCM``), value and meaning."""

    scheme: str
    value: str
    meaning: str

    def __str__(self) -> str:
        return f"{self.scheme}^{self.value}^{self.meaning}"


# The master list has Cyst (367643001), too. Whether a lesion is one is a finding, told in probabilities (`solid_nodule`, echogenicity); a segment's type
# would state it as a fact, so all outlines are masses, and a reader may choose Cyst in the Segment Editor.
CATEGORY = Code("SCT", "49755003", "Morphologically Altered Structure")
MASS = Code("SCT", "4147007", "Mass")
BREAST = Code("SCT", "76752008", "Breast")

# The names of the two lists that ship with Slicer; a list that is not loaded leaves the codes readable all the same.
TERMINOLOGY_CONTEXT = "Segmentation category and type - DICOM master list"
ANATOMIC_CONTEXT = "Anatomic codes - DICOM master list"

# RGB, 0 to 1. The recommended colour of the type Mass in Slicer's master list is (144, 238, 144); a lesion on a grey
# ultrasound image stands out better in these, which differ for colour-blind readers as well (Okabe & Ito 2008).
LESION_COLORS: tuple[tuple[float, float, float], ...] = (
    (0.902, 0.624, 0.000),
    (0.337, 0.706, 0.914),
    (0.000, 0.620, 0.451),
    (0.941, 0.894, 0.259),
    (0.835, 0.369, 0.000),
    (0.800, 0.475, 0.655),
    (0.000, 0.447, 0.698),
)

TERMINOLOGY_TAG = "TerminologyEntry"
ALGORITHM_TYPE_TAG = "DICOM.SegmentAlgorithmType"
ALGORITHM_NAME_TAG = "DICOM.SegmentAlgorithmName"


def lesion_color(index: int) -> tuple[float, float, float]:
    """RGB (0 to 1) of the lesion with this index, counted from 0; the list starts again after seven."""
    return LESION_COLORS[index % len(LESION_COLORS)]


def terminology_entry(kind: Code = MASS, region: Code = BREAST, category: Code = CATEGORY) -> str:
    """The terminology entry of a lesion in Slicer's serialised form.

    >>> terminology_entry().split("~")[2]
    'SCT^4147007^Mass'
    """
    nothing = "^^"
    return "~".join(
        (TERMINOLOGY_CONTEXT, str(category), str(kind), nothing, ANATOMIC_CONTEXT, str(region), nothing)
    )


def algorithm_type(edited: bool) -> str:
    """DICOM's Segment Algorithm Type (0062,0008) of an outline: by a model alone, or with a person's help."""
    return "SEMIAUTOMATIC" if edited else "AUTOMATIC"


def segment_tags(model_id: str, edited: bool = False) -> dict[str, str]:
    """The tags of a lesion's segment: what it is, and that a model, not a person, drew it.

    Parameters
    ----------
    model_id : id of the model in the catalogue, or "" when it is not known.
    edited : a person changed what the model drew.

    Returns
    -------
    dict : tag name -> value, for ``vtkSegment.SetTag`` and for ``Segment<N>_Tags`` of a ``.seg.nrrd``.
    """
    return {
        TERMINOLOGY_TAG: terminology_entry(),
        ALGORITHM_TYPE_TAG: algorithm_type(edited),
        ALGORITHM_NAME_TAG: f"BreastUSAI {model_id}".strip(),
    }
