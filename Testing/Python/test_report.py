"""The pages for people: what they show, that they hold everything in themselves, and that names cannot break them."""

import base64
import io
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from BreastUSAILib import RESEARCH_USE, pictures, report
from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grid import box_of_mask
from BreastUSAILib.report_parts import title_and_unit

PROVENANCE = {
    "created": "2026-11-21T04:12:00+00:00",
    "models": [{"id": "m1", "version": "1.2", "task": "segment", "sha256": "ab" * 32, "trained_on": "real images"}],
    "device": {"name": "cpu", "reason": "no GPU found"},
    "options": {"refine": True, "model": ""},
    "seconds": {"segment": 0.41},
    "software": {"torch": "2.13"},
    "notes": ["colour was converted to luminance"],
}


def grey(shape=(60, 80), spacing=(0.1, 0.1), direction=None):
    rng = np.random.default_rng(1)
    image = sitk.GetImageFromArray(rng.integers(0, 255, shape, np.uint8))
    image.SetSpacing(spacing)
    if direction is not None:
        image.SetDirection(direction)
    return image


def study_of(image, *regions, name="a.png", spacing_known=True):
    findings = []
    for i, (start, size) in enumerate(regions):
        array = np.zeros(image.GetSize()[::-1], np.uint8)
        array[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))[::-1]] = 1
        mask = sitk.GetImageFromArray(array)
        mask.CopyInformation(image)
        findings.append(
            Finding(
                f"L{i + 1}",
                box_of_mask(mask),
                0.934 - i / 10,
                mask=mask,
                label=i + 1,
                measurements={"circularity": 0.71, "major_diameter_mm": 12.346, "posterior_ratio": None},
                notes=("The contour was not refined.",) if i else (),
            )
        )
    return Study(ImageInfo.of(image, name, spacing_known), tuple(findings), provenance=PROVENANCE)


class Page(HTMLParser):
    """Tags with their attributes, and the text outside style and script."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self._open = [], "", []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)
        self.text += " "

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if not {"style", "script"} & set(self._open):
            self.text += data

    def attributes(self, tag, name):
        return [a[name] for t, a in self.tags if t == tag and name in a]

    @property
    def links(self):
        return [a[k] for _, a in self.tags for k in ("href", "src") if k in a]


# ------------------------------------------------------------------------------------------------------- pictures


@given(st.lists(st.integers(0, 1), min_size=48, max_size=48).map(lambda v: np.array(v).reshape(6, 8)))
@settings(max_examples=60, deadline=None)
def test_polygons_follow_the_mask(mask):
    polygons = pictures.polygons(mask)
    drawn = sum(_area(p) for p in polygons)
    # Marching squares cuts an eighth of a pixel from each convex corner and adds one at each concave corner.
    assert all(np.array_equal(p[0], p[-1]) for p in polygons)
    assert abs(abs(drawn) - mask.sum()) <= _corners(mask) / 8 + 1e-9
    for polygon in polygons:
        for x, y in polygon:
            edge = {(math.floor(y + dy), math.floor(x + dx)) for dx in (-0.5, 0, 0.4) for dy in (-0.5, 0, 0.4)}
            values = {mask[i, j] if 0 <= i < 6 and 0 <= j < 8 else 0 for i, j in edge}
            assert values == {0, 1}  # every corner has inside and outside next to it


def _area(polygon):
    x, y = polygon[:, 0], polygon[:, 1]
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _corners(mask):
    padded = np.pad(mask, 1)
    four = padded[:-1, :-1] + padded[1:, :-1] + padded[:-1, 1:] + padded[1:, 1:]
    diagonal = (padded[:-1, :-1] == padded[1:, 1:]) & (padded[1:, :-1] == padded[:-1, 1:]) & (four == 2)
    return int(np.isin(four, (1, 3)).sum() + 2 * diagonal.sum())


@pytest.mark.parametrize("direction", [None, (0.8, -0.6, 0.6, 0.8), (-1, 0, 0, 1)])
def test_boxes_and_outlines_lie_on_the_pixels(direction):
    image = grey(spacing=(0.05, 0.2), direction=direction)
    (outline,) = pictures.view(image, study_of(image, ((10, 20), (30, 15)))).outlines
    np.testing.assert_allclose(outline.box, (10, 20, 40, 35), atol=1e-6)
    (polygon,) = outline.polygons
    np.testing.assert_allclose([*polygon.min(0), *polygon.max(0)], (10, 20, 40, 35), atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_volumes_of_one_slice_are_shown_like_2d_images(axis):
    shape = [60, 80]
    shape.insert(2 - axis, 1)
    start, size = [10, 20], [30, 15]
    start.insert(axis, 0)
    size.insert(axis, 1)
    image = grey(shape, (0.1, 0.2, 0.3))
    drawn = pictures.view(image, study_of(image, (start, size)))
    assert drawn.pixels.shape == (60, 80)
    np.testing.assert_allclose(drawn.outlines[0].box, (10, 20, 40, 35), atol=1e-6)
    assert len(drawn.outlines[0].polygons) == 1


def test_crops_hold_the_lesion_and_stay_inside():
    image = grey(spacing=(0.1, 0.2))
    whole = pictures.view(image, study_of(image, ((0, 20), (30, 15))))
    part = pictures.crop(whole, "L1")
    x, y = (int(v) for v in (-part.outlines[0].box[0], 20 - part.outlines[0].box[1]))
    np.testing.assert_array_equal(part.pixels, whole.pixels[y : y + part.pixels.shape[0], x : x + part.pixels.shape[1]])
    left, top, right, bottom = part.outlines[0].box
    assert left == pytest.approx(0) and top > 0 and right < part.pixels.shape[1] and bottom < part.pixels.shape[0]


def test_grey_values():
    np.testing.assert_array_equal(pictures.to_grey(np.array([[0, 200]], np.uint8)), [[0, 200]])
    np.testing.assert_array_equal(pictures.to_grey(np.array([[-1000.0, 0.0, 1000.0]])), [[0, 128, 255]])
    assert pictures.to_grey(np.full((3, 3), 7.5)).max() == 0
    for dtype in (np.float32, np.float64):  # a range that is wider than the greatest number
        widest = np.array([[-1, 0, 1]], dtype) * np.finfo(dtype).max
        np.testing.assert_array_equal(pictures.to_grey(widest), [[0, 128, 255]])
    rare = np.zeros((20, 20), np.uint16)
    rare[3, 3] = 60000  # one bright pixel is not what the window is about, but it is all there is
    assert pictures.to_grey(rare)[3, 3] == 255


def test_previews_are_undistorted_and_show_the_outline():
    image = sitk.GetImageFromArray(np.zeros((60, 80), np.uint8))
    image.SetSpacing((0.1, 0.2))
    picture = Image.open(io.BytesIO(pictures.preview(pictures.view(image, study_of(image, ((20, 20), (30, 15)))))))
    assert picture.size == (240, 360)
    assert np.asarray(picture)[120:210, 60:150].max() > 150


# --------------------------------------------------------------------------------------------------------- report


def test_a_report_says_all_it_should():
    image = grey()
    text = " ".join(Page(report.report_html(study_of(image, ((10, 20), (30, 15)), ((50, 2), (9, 9))), image)).text.split())
    for expected in (
        "2 lesions found.", "Lesion L1", "Lesion L2", "0.934", "Longest diameter 12.35 mm", "not measured",
        "The contour was not refined.", "colour was converted to luminance", "m1 1.2 (segment)", "trained on real images",
        "ab" * 32, "cpu: no GPU found", "refine: yes", "model: default", "segment: 0.41", "torch 2.13", "0.1 x 0.1 mm",
        "2026-11-21", "Box size 3.00 x 1.50 mm",
    ):  # fmt: skip
        assert expected in text, expected
    assert text.count(RESEARCH_USE) == 2
    assert "unknown" not in text


def test_unknown_spacing_is_said_and_nothing_is_in_millimetres():
    image = grey(spacing=(1, 1))
    study = study_of(image, ((10, 20), (30, 15)), spacing_known=False)
    finding = replace(study.findings[0], measurements={"area_px2": 450.0, "major_diameter_px": 33.1})
    text = Page(report.report_html(replace(study, findings=(finding,)), image)).text
    assert "Pixel spacing unknown: figures are in pixels." in text
    assert not re.search(r"\bmm\b", text)
    assert "pixels²" in text


def test_nothing_found_is_an_ordinary_result():
    image = grey()
    page = report.report_html(study_of(image), image)
    text = Page(page).text
    assert "No lesion found." in text and "This is an ordinary result" in " ".join(text.split())
    assert "error" not in text.lower() and "<path" not in page


def test_reports_hold_everything_in_themselves():
    image = grey()
    html = report.report_html(study_of(image, ((10, 20), (30, 15))), image)
    page = Page(html)
    ids = {a["id"] for _, a in page.tags if "id" in a}
    for link in page.links:
        assert link.startswith("data:image/png;base64,") or link[1:] in ids
    assert not page.attributes("script", "src") and "url(" not in html and "@import" not in html and "http" not in html
    whole = Image.open(io.BytesIO(base64.b64decode(page.attributes("image", "href")[0].split(",")[1])))
    np.testing.assert_array_equal(np.asarray(whole), sitk.GetArrayFromImage(image))


def test_every_picture_has_words():
    image = grey()
    page = Page(report.report_html(study_of(image, ((10, 20), (30, 15))), image))
    labels = page.attributes("svg", "aria-label")
    assert len(labels) == len([t for t, _ in page.tags if t == "svg"]) == 3 and all(labels)


def test_outlines_are_drawn_where_they_are():
    image = grey(spacing=(0.1, 0.2))
    html = report.report_html(study_of(image, ((10, 20), (30, 15))), image)
    assert 'viewBox="0 0 80.00 120.00"' in html
    rectangle = next(a for t, a in Page(html).tags if t == "rect")
    assert [float(rectangle[k]) for k in ("x", "y", "width", "height")] == [10, 40, 30, 30]
    path = next(a["d"] for t, a in Page(html).tags if t == "path")
    points = np.array([[float(v) for v in p.split()] for p in re.findall(r"[\d.]+ [\d.]+", path)])
    np.testing.assert_allclose([*points.min(0), *points.max(0)], [10, 40, 40, 70])


def test_large_images_are_embedded_smaller_and_outlined_exactly():
    image = grey((1200, 3200), (1, 1))
    page = Page(report.report_html(study_of(image, ((1000, 200), (300, 150))), image))
    embedded = Image.open(io.BytesIO(base64.b64decode(page.attributes("image", "href")[0].split(",")[1])))
    assert embedded.size == (1600, 600)
    assert page.attributes("svg", "viewbox")[0] == "0 0 3200.00 1200.00"


NASTY = ["<img src=x onerror=alert(1)>.png", "<script>alert(1)", "a\"b' onload=x.png", "&amp;&.png", "{{7*7}}.png", "bad-\udcff.png", "日本 #1 %20.png"]


@pytest.mark.parametrize("name", NASTY)
def test_names_cannot_break_the_pages(name, tmp_path):
    image = grey()
    study = study_of(image, ((10, 20), (30, 15)), name=f"/in/{name}")
    study = replace(study, findings=(replace(study.findings[0], notes=(name,)),))
    report.write_report(study, image, tmp_path)
    plain = Page(report.report_html(replace(study, image=replace(study.image, path="/in/x.png")), image))
    page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert [t for t, _ in page.tags] == [t for t, _ in plain.tags]
    shown = name.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    assert shown in page.text


def test_measurements_have_plain_names():
    from BreastUSAILib.files import MEASUREMENTS

    for name in MEASUREMENTS:
        title, unit = title_and_unit(name)
        assert title[0].isupper() and "_" not in title
        assert bool(unit) == name.endswith(("_mm", "_mm2", "_mm3", "_ml", "_px", "_px2", "_px3", "_deg"))
    assert title_and_unit("odd_new_figure_ml") == ("Odd new figure", "ml")


def test_assets_are_part_of_the_package():
    # A wheel without them makes no report.
    assert '"report_assets/*"' in (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert {p.suffix for p in (Path(report.__file__).parent / "report_assets").iterdir()} == {".css", ".j2", ".js"}


def test_measurements_without_a_value_are_told_as_such():
    from BreastUSAILib.files import MEASUREMENTS

    image = grey()
    study = study_of(image, ((10, 10), (20, 15)))
    study = replace(study, findings=(replace(study.findings[0], measurements=dict.fromkeys(MEASUREMENTS)),))
    assert Page(report.report_html(study, image)).text.count("not measured") == len(MEASUREMENTS)


def test_the_minor_diameter_is_called_what_it_is():
    from BreastUSAILib.measurements import measure_2d

    definition = " ".join(measure_2d.__doc__.split())
    assert "``minor_diameter_mm``: the longest chord" in definition
    assert title_and_unit("minor_diameter_mm") == ("Longest chord perpendicular to it", "mm")
