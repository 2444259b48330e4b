"""The report of a study as a PDF, and that as a DICOM Encapsulated PDF (PS3.3 A.45.1).

Text is text and outlines are vectors, so that the report can be searched and enlarged; fonts are embedded.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import SimpleITK as sitk

from .. import RESEARCH_USE, __version__, pictures, volume_pictures
from ..errors import DependencyError
from ..findings import Finding, Study
from ..grid import as_2d
from ..report_parts import facts, measurement_rows, scores
from ..volume_report import MOST_PICTURED
from .codes import assessment, descriptors
from .equipment import MANUFACTURER, Result, finish, frame_of, identification, made, result
from .source import INSTALL, Original, as_written, require_highdicom

if TYPE_CHECKING:
    from pydicom import Dataset
    from reportlab.platypus import Flowable

_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_MM = 72 / 25.4  # points
_WIDTH = 174 * _MM  # of the text on A4
_FONT, _BOLD = "Vera", "VeraBd"
_GREY = "#5a6470"


def encapsulated_pdf(study: Study, original: Original, image: sitk.Image, burned_in: bool = True) -> Dataset:
    """The report as a DICOM object.

    Parameters
    ----------
    study, image : as of `report.write_report`.
    original : whose patient and study it belongs to.
    burned_in : whether the document may show who the patient is (in its text or in its pictures).

    Raises
    ------
    DependencyError : highdicom or reportlab is not installed.
    """
    require_highdicom()
    from highdicom.base import SOPClass
    from pydicom import Dataset

    header = original.header
    patient = [
        ("Patient", str(header.PatientName)),
        ("Patient ID", as_written(header, "PatientID")),
        ("Study date", _date(str(header.StudyDate))),
        ("Accession number", as_written(header, "AccessionNumber")),
    ]
    document = pdf(study, image, [(k, v) for k, v in patient if v.strip(" ^")])
    made_as = identity(study, original)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = SOPClass(
            study_instance_uid=header.StudyInstanceUID,
            **identification(made_as),
            sop_class_uid=_ENCAPSULATED_PDF,
            modality="DOC",
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            patient_id=header.PatientID,
            patient_name=header.PatientName,
            patient_birth_date=header.PatientBirthDate,
            patient_sex=header.PatientSex,
            accession_number=header.AccessionNumber,
            study_id=header.StudyID,
            study_date=header.StudyDate,
            study_time=header.StudyTime,
            referring_physician_name=header.ReferringPhysicianName,
            specific_character_set=header.get("SpecificCharacterSet"),
        )
        dataset.copy_patient_and_study_information(header)
    title = Dataset()
    title.CodeValue, title.CodingSchemeDesignator, title.CodeMeaning = "18748-4", "LN", "Diagnostic imaging report"
    dataset.ConceptNameCodeSequence = [title]
    dataset.DocumentTitle = f"BreastUSAI: {study.summary}"
    dataset.ConversionType = "WSD"
    dataset.AcquisitionDateTime = ""
    dataset.BurnedInAnnotation = "YES" if burned_in else "NO"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(document)
    dataset.EncapsulatedDocument = document + b"\0" * (len(document) % 2)
    sources = []
    for original_header in original.headers:
        item = Dataset()
        item.ReferencedSOPClassUID = original_header.SOPClassUID
        item.ReferencedSOPInstanceUID = original_header.SOPInstanceUID
        sources.append(item)
    dataset.SourceInstanceSequence = sources
    return finish(dataset, original, study, made_as)


def identity(study: Study, original: Original, version: str = __version__) -> Result:
    """The UIDs of the report that a version of the software writes."""
    # Findings tell frames apart; where nothing was found, the number of the frame does.
    content = [str(f.to_dict()) for f in study.findings] or [frame for frame in (frame_of(study),) if frame]
    return result(original, study, "report", *content, version=version)


def pdf(study: Study, image: sitk.Image, patient: Sequence[tuple[str, str]] = ()) -> bytes:
    """The report as a PDF.

    Parameters
    ----------
    study, image : as of `report.write_report`.
    patient : names and values for the head of the first page.

    Raises
    ------
    DependencyError : reportlab is not installed.
    """
    _register_fonts()
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer

    plain = ParagraphStyle("plain", fontName=_FONT, fontSize=8.5, leading=12)
    head = ParagraphStyle("head", plain, fontName=_BOLD, fontSize=15, leading=20)
    section = ParagraphStyle("section", head, fontSize=11, leading=15, spaceBefore=10, spaceAfter=3)
    small = ParagraphStyle("small", plain, fontSize=7, leading=9.5, textColor=_GREY)

    def text(words: str, style=plain) -> Paragraph:
        return Paragraph(escape(_shown(words)), style)

    info = study.image
    flat = as_2d(image) is not None
    whole = pictures.view(image, study) if flat else volume_pictures.projection(image, study)[0]
    greys = None if flat else volume_pictures.grey_range(image)
    story: list[Flowable] = [text(f"Breast ultrasound: {study.summary}", head), text(RESEARCH_USE, small), Spacer(0, 6)]
    if patient:
        story += [_table([(name, value, "") for name, value in patient], plain), Spacer(0, 6)]
    story.append(_picture(whole, 0.62 * _WIDTH, 95 * _MM))
    story.append(text(f"{Path(info.path).name}, {' x '.join(map(str, info.size))} pixels", small))
    for index, finding in enumerate(study.findings):
        story.append(text(f"Lesion {finding.id}", section))
        if flat:
            story.append(_picture(pictures.crop(whole, finding.id), 0.4 * _WIDTH, 60 * _MM))
        elif index < MOST_PICTURED:
            cuts = volume_pictures.cuts(image, study, finding, greys)
            story.append(_row([_picture(cut.view, 0.31 * _WIDTH, 60 * _MM) for cut in cuts]))
            story.append(text(", ".join(f"{cut.plane.name} ({cut.number})" for cut in cuts), small))
        rows = [(r["name"], r["value"], r["unit"]) for r in (*_words(finding), *scores(finding, info))]
        rows += [(r["name"], r["value"], r["unit"]) for r in measurement_rows(finding.measurements)]
        story.append(_table(rows, plain))
        story += [text(note) for note in finding.notes]
    notes = list(study.provenance.get("notes", ()))
    if notes:
        story += [text("Notes", section), *(text(f"{note[:1].upper()}{note[1:]}.") for note in notes)]
    story.append(text("How this was made", section))
    story.append(_table([(name, "; ".join(lines), "") for name, lines in facts(study)], small))
    stream = io.BytesIO()
    margin = (A4[0] - _WIDTH) / 2
    document = SimpleDocTemplate(
        stream,
        pagesize=A4,
        leftMargin=margin,
        rightMargin=margin,
        topMargin=16 * _MM,
        bottomMargin=18 * _MM,
        title=f"BreastUSAI: {study.summary}",
        author=MANUFACTURER,
        invariant=1,  # no time of its own: the same study gives the same bytes
    )
    when = made(study)
    stamp = f"   {when:%Y-%m-%d %H:%M}" if when is not None else ""

    def footer(canvas, page) -> None:
        canvas.setFont(_FONT, 6.5)
        canvas.setFillColor(_GREY)
        canvas.drawString(margin, 10 * _MM, _shown(RESEARCH_USE))
        canvas.drawRightString(A4[0] - margin, 10 * _MM, f"BreastUSAI {__version__}{stamp}   page {page.page}")

    document.build(story, onFirstPage=footer, onLaterPages=footer)
    return stream.getvalue()


def _date(value: str) -> str:
    """A DICOM date as people write it."""
    return f"{value[:4]}-{value[4:6]}-{value[6:]}" if len(value) == 8 and value.isdigit() else value


def _words(finding: Finding) -> list[dict[str, str]]:
    """What is said of a lesion in words."""
    category = assessment(finding.birads)
    rows = [] if category is None else [("BI-RADS category", category)]
    rows += [(name.meaning, value.meaning) for name, value in descriptors(finding.measurements)]
    return [{"name": name, "value": value, "unit": ""} for name, value in rows]


def _register_fonts() -> None:
    """The fonts that reportlab brings, which a reader need not have."""
    try:
        from reportlab.pdfbase import pdfmetrics
        from reportlab.pdfbase.ttfonts import TTFont
    except ImportError as error:
        raise DependencyError(f"a report in DICOM needs the package reportlab; install it with: {INSTALL}") from error
    for name in (_FONT, _BOLD):
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(TTFont(name, f"{name}.ttf"))


def _shown(words: str) -> str:
    """Text in the letters that the font has (Windows-1252, with typographic apostrophes and dashes); others become a question mark."""
    return words.encode("cp1252", "replace").decode("cp1252")


def _table(rows: Sequence[tuple[str, str, str]], style) -> Flowable:
    from reportlab.platypus import Paragraph, Table

    cells = [[Paragraph(escape(_shown(cell)), style) for cell in row] for row in rows]
    widths = (0.42 * _WIDTH, 0.46 * _WIDTH, 0.12 * _WIDTH)
    lines = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.25, "#d5dae0"),
        ("TOPPADDING", (0, 0), (-1, -1), 1),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
        ("LEFTPADDING", (0, 0), (-1, -1), 0),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ]
    return Table(cells, colWidths=widths, style=lines, hAlign="LEFT")


def _row(pictures_: Sequence[Flowable]) -> Flowable:
    """Pictures side by side."""
    from reportlab.platypus import Table

    return Table([list(pictures_)], colWidths=[_WIDTH / len(pictures_)] * len(pictures_), hAlign="LEFT")


def _picture(view: pictures.View, width: float, height: float) -> Flowable:
    """A slice with its outlines and boxes, undistorted, at most `width` x `height` points."""
    from reportlab.graphics.shapes import Drawing, Group, Image, Path, Rect, String
    from reportlab.lib.colors import HexColor

    drawn = view.drawn_size
    scale = min(width / drawn[0], height / drawn[1])
    w, h = drawn[0] * scale, drawn[1] * scale
    across, down = (s * scale for s in view.scale)
    drawing = Drawing(w, h)
    drawing.add(Image(0, 0, w, h, _pil(view)))
    for outline in view.outlines:
        color: Any = HexColor(outline.color)
        group = Group()
        for ring in outline.polygons:
            path = Path(strokeColor=color, strokeWidth=0.9, fillColor=None)
            for n, (x, y) in enumerate(ring[:-1]):
                (path.moveTo if n == 0 else path.lineTo)(x * across, h - y * down)
            path.closePath()
            group.add(path)
        left, top, right, bottom = outline.box
        if not outline.polygons:
            box = (left * across, h - bottom * down, (right - left) * across, (bottom - top) * down)
            group.add(Rect(*box, strokeColor=color, strokeWidth=0.9, fillColor=None))
        label = min(h - top * down + 2, h - 7)
        group.add(String(max(0, left * across), label, outline.id, fontName=_BOLD, fontSize=6.5, fillColor=color))
        drawing.add(group)
    return drawing


def _pil(view: pictures.View):
    from PIL import Image

    return Image.open(io.BytesIO(pictures.png(view.pixels))).convert("RGB")
