"""Pictures, report and scene of a volume: each cut shows what lies there, undistorted, and the page says all it should."""

import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from test_report import NASTY, PROVENANCE, Page

from BreastUSAILib import RESEARCH_USE, pictures, report, volume_pictures
from BreastUSAILib.detect import box_measurements
from BreastUSAILib.findings import Box, Finding, ImageInfo, Study
from BreastUSAILib.grid import index_box
from BreastUSAILib.volume_report import volume_page

SIZE, SPACING = (60, 30, 50), (0.5, 0.4, 1.1)
TURN = (0.36, 0.48, -0.8, -0.8, 0.60, 0.0, 0.48, 0.64, 0.60)
MODEL = {"id": "d1", "version": "2.0", "task": "detect", "sha256": "cd" * 32}
PHANTOMS = {**MODEL, "trained_on": "400 phantom volumes (split train)"}


def volume(size=SIZE, spacing=SPACING, direction=TURN, kind=np.uint8):
    """Every voxel has another value than its neighbours along each axis."""
    x, y, z = np.ogrid[: size[0], : size[1], : size[2]]
    image = sitk.GetImageFromArray(((x * 3 + y * 5 + z * 7) % 251).astype(kind).transpose(2, 1, 0))
    image.SetSpacing(spacing)
    image.SetOrigin((-12.0, 30.0, 7.0))
    image.SetDirection(direction)
    return image


def study_of(image, *regions, name="/in/a.nrrd", spacing_known=True, models=(PHANTOMS,), masks=False, **provenance):
    """A study with a box for each region (first voxel, number of voxels), as detection makes it."""
    findings = []
    for i, (start, size) in enumerate(regions):
        box = index_box(image, start, size)
        mask = None
        if masks:
            array = np.zeros(image.GetSize()[::-1], np.uint8)
            array[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))[::-1]] = 1
            mask = sitk.GetImageFromArray(array)
            mask.CopyInformation(image)
        found = Finding(
            f"L{i + 1}", box, 0.934 - i / 40, (0.31 + i / 5) % 1, mask=mask, label=i + 1 if masks else None,
            measurements=box_measurements(image, box, spacing_known), models={"detect": "d1"},
        )  # fmt: skip
        findings.append(found)
    record = {**PROVENANCE, "models": list(models), "operating_point": {"threshold": 0.42, "maximum": None}, **provenance}
    return Study(ImageInfo.of(image, name, spacing_known), tuple(findings), provenance=record)


TWO = (((10, 6, 20), (12, 10, 8)), ((44, 15, 2), (9, 9, 6)))


# ------------------------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("direction", [TURN, (1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, 1, 0, 0, 0, -1)])
def test_three_cuts_go_through_the_centre_of_the_finding(direction):
    image = volume(direction=direction)
    study = study_of(image, *TWO)
    array = sitk.GetArrayFromImage(image)
    transverse, sagittal, coronal = (c for c in volume_pictures.cuts(image, study, study.findings[0]))
    assert [c.number for c in (transverse, sagittal, coronal)] == [25, 17, 12]  # counted from 1
    # From the skin: the last of the 50 slices at the top, and on the left.
    whole = (array[24], array[::-1, :, 16].T, array[::-1, 11])
    sizes = [(0.5, 0.4), (1.1, 0.4), (0.5, 1.1)]
    edges = [(10, 6, 22, 16), (22, 6, 30, 16), (10, 22, 22, 30)]
    for cut, plane, pixel, box in zip((transverse, sagittal, coronal), whole, sizes, edges, strict=True):
        assert cut.view.pixel_size == pytest.approx(pixel)
        (outline,) = cut.view.outlines
        left, top = (int(round(a - b)) for a, b in zip(box[:2], outline.box[:2], strict=True))
        height, width = cut.view.pixels.shape
        np.testing.assert_array_equal(cut.view.pixels, plane[top : top + height, left : left + width])
        np.testing.assert_allclose(outline.box, np.subtract(box, (left, top, left, top)), atol=1e-6)


def backwards(image):
    """The same body, its slices stored in the other order: of a right-handed volume a left-handed one."""
    back = sitk.GetImageFromArray(sitk.GetArrayFromImage(image)[::-1].copy())
    back.SetSpacing(image.GetSpacing())
    back.SetOrigin(image.TransformIndexToPhysicalPoint((0, 0, image.GetSize()[2] - 1)))
    back.SetDirection((np.reshape(image.GetDirection(), (3, 3)) * (1.0, 1.0, -1.0)).ravel())
    return back


def same_views(one, other):
    np.testing.assert_array_equal(one.pixels, other.pixels)
    assert [o.id for o in one.outlines] == [o.id for o in other.outlines]
    for a, b in zip(one.outlines, other.outlines, strict=True):
        np.testing.assert_allclose(a.box, b.box, atol=1e-6)
        for p, q in zip(a.polygons, b.polygons, strict=True):
            assert {tuple(point) for point in p} == {tuple(point) for point in q}


@pytest.mark.parametrize("direction", [TURN, (1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, 1, 0, 0, 0, -1)])
@pytest.mark.parametrize("size", [SIZE, (60, 30, 180)])
def test_a_body_looks_the_same_in_whichever_order_its_slices_are_stored(direction, size):
    """Boxes end on borders between voxels, at either end of the volume, and within a field that does not reach these."""
    image = volume(size, direction=direction)
    assert np.linalg.det(np.reshape(image.GetDirection(), (3, 3))) > 0
    back, last = backwards(image), size[2]
    regions = *TWO, ((20, 10, last - 4), (11, 6, 4)), ((25, 12, 28), (8, 7, 5))
    study = study_of(image, *regions, masks=True)
    turned = [((x, y, last - z - n), (nx, ny, n)) for (x, y, z), (nx, ny, n) in regions]
    study_back = study_of(back, *turned, masks=True)
    for finding, same in zip((*study.findings, None), (*study_back.findings, None), strict=True):
        for cut, other in zip(volume_pictures.cuts(image, study, finding), volume_pictures.cuts(back, study_back, same), strict=True):
            same_views(cut.view, other.view)
            through = cut.plane.through
            assert other.number == (last + 1 - cut.number if through == 2 else cut.number)  # as it is stored
        if finding is not None:
            number = int(volume_pictures.voxel_at(image, finding.box.center)[2])
            assert volume_pictures.voxel_at(back, same.box.center)[2] == last - 1 - number
            one = volume_pictures.section(image, study, finding, number)
            same_views(one, volume_pictures.section(back, study_back, same, last - 1 - number))
    (view, depths), (other, depths_back) = volume_pictures.projection(image, study), volume_pictures.projection(back, study_back)
    same_views(view, other)
    assert depths == pytest.approx(depths_back)


def test_cuts_have_one_scale_and_stay_inside():
    image = volume((300, 100, 120), (0.5, 0.5, 1.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    small, corner, large = ((150, 40, 60), (8, 8, 8)), ((0, 0, 0), (6, 6, 6)), ((100, 20, 20), (100, 40, 60))
    study = study_of(image, small, corner, large)
    for finding, field in zip(study.findings, (50, 50, 150), strict=True):
        for cut in volume_pictures.cuts(image, study, finding):
            shown = np.multiply(cut.view.pixels.shape[::-1], cut.view.pixel_size)
            full = [n * s for n, s in zip(image.GetSize(), image.GetSpacing(), strict=True)]
            expected = [min(field, full[axis]) for axis in (cut.plane.across, cut.plane.down)]
            assert shown == pytest.approx(expected, abs=1.0)
            own = next(o for o in cut.view.outlines if o.id == finding.id)
            assert min(own.box) >= -1e-6 and own.box[2] <= cut.view.pixels.shape[1] + 1e-6 and own.box[3] <= cut.view.pixels.shape[0] + 1e-6


def test_only_boxes_that_a_cut_meets_are_drawn_on_it():
    image = volume()
    over = ((14, 8, 22), (20, 4, 30))
    study = study_of(image, TWO[0], over, TWO[1])
    transverse, *_ = volume_pictures.cuts(image, study, study.findings[0])
    assert [o.id for o in transverse.view.outlines] == ["L1", "L2"]


def test_masks_are_outlined_in_every_plane():
    image = volume()
    study = study_of(image, TWO[0], masks=True)
    for cut in volume_pictures.cuts(image, study, study.findings[0]):
        (outline,) = cut.view.outlines
        (polygon,) = outline.polygons
        np.testing.assert_allclose([*polygon.min(0), *polygon.max(0)], outline.box, atol=1e-6)


def test_the_projection_shows_all_boxes_and_the_depths_they_are_in():
    image = volume((40, 30, 50), (0.5, 0.4, 1.1), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    array = np.full((50, 30, 40), 100, np.uint8)
    array[20:28, 6:16, 10:22] = 20  # a dark lesion
    array[:, 25:, :20] = 0  # deeper than any finding: not seen
    dark = sitk.GetImageFromArray(array)
    dark.CopyInformation(image)
    study = study_of(dark, ((10, 6, 20), (12, 10, 8)), ((30, 10, 40), (5, 5, 5)))
    view, depths = volume_pictures.projection(dark, study)
    assert depths == pytest.approx((6 * 0.4, 16 * 0.4)) and view.pixels.shape == (50, 40)
    assert [o.id for o in view.outlines] == ["L1", "L2"]
    np.testing.assert_allclose(view.outlines[0].box, (10, 22, 22, 30), atol=1e-6)
    assert view.pixels[25, 15] < 60 < view.pixels[5, 5] and view.pixels[5, 5] == view.pixels[5, 35]
    assert volume_pictures.projection(dark, study_of(dark))[1] == pytest.approx((0, 12))


def test_volumes_of_any_type_are_shown_alike():
    image = volume()
    study = study_of(image, TWO[0])
    large = sitk.Cast(volume(kind=np.float64), sitk.sitkFloat64) * 1e6 - 3e7
    low, high = volume_pictures.grey_range(large)
    assert -3e7 <= low < high <= 251e6 and volume_pictures.grey_range(image) is None
    one = volume_pictures.cuts(image, study, study.findings[0])
    other = volume_pictures.cuts(large, study, study.findings[0], (low, high))
    for a, b in zip(one, other, strict=True):
        assert np.corrcoef(a.view.pixels.ravel(), b.view.pixels.ravel())[0, 1] > 0.999


def test_previews_show_boxes_where_there_are_no_outlines():
    image = sitk.GetImageFromArray(np.full((50, 30, 60), 100, np.uint8))
    view = volume_pictures.projection(image, study_of(image, ((10, 6, 20), (12, 10, 8))))[0]
    picture = np.asarray(Image.open(io.BytesIO(pictures.preview(view))).convert("RGB")).astype(int)
    assert picture.shape == (300, 360, 3)
    coloured = np.argwhere(np.ptp(picture, axis=2) > 80)
    assert coloured.min(0) == pytest.approx((132, 60), abs=3) and coloured.max(0) == pytest.approx((180, 132), abs=3)


# --------------------------------------------------------------------------------------------------------- report


def words(html):
    return " ".join(Page(html).text.split())


def test_a_report_of_a_volume_says_all_it_should():
    image = volume()
    html = report.report_html(study_of(image, *TWO), image)
    text = words(html)
    for expected in (
        "2 lesions found.", "Finding L1", "Finding L2", "L1 0.93 0.31 6.0 x 4.0 x 8.8 2.4 25", "L2 0.91 0.51 4.5 x 3.6 x 6.6 6.0 6",
        "Size, mm", "Depth, mm", "Transverse across: lateral, down: depth; slice 25 of 50",
        "Sagittal across: slice (to the left), down: depth; lateral 17 of 60", "Coronal across: lateral, up: slice; depth 12 of 30",
        "Reported are findings with a score of 0.420 or more (the model's own).", "60 x 30 x 50 voxels, 30 x 12 x 55 mm.",
        "d1 2.0 (detect)", "cd" * 32, "cpu: no GPU found", "Voxel size 0.5 x 0.4 x 1.1 mm", "Probability of malignancy 0.310",
        "Depth below the upper edge of the volume 2.40 mm",
    ):  # fmt: skip
        assert expected in text, expected
    assert text.count(RESEARCH_USE) == 2 and "Measurements" not in text and "unknown" not in text
    page = Page(html)
    labels = page.attributes("svg", "aria-label")
    assert len(labels) == 7 and all(labels) and "Finding L2, coronal cut" in labels
    ids = {a["id"] for _, a in page.tags if "id" in a}
    assert len(ids) == len([a for _, a in page.tags if "id" in a])
    assert all(link.startswith("data:image/png;base64,") for link in page.links) and "http" not in html


def test_the_volume_of_a_small_lesion_is_not_told_as_nothing():
    image = volume()
    study = study_of(image, TWO[0], masks=True)
    small = replace(study.findings[0], measurements={**study.findings[0].measurements, "volume_ml": 0.0038})
    assert "L1 0.93 0.31 0.00380" in words(report.report_html(replace(study, findings=(small,)), image))


def test_cuts_are_drawn_undistorted_with_box_and_scale():
    image = volume()
    html = report.report_html(study_of(image, TWO[0]), image)
    sizes = [[float(v) for v in box.split()[2:]] for box in Page(html).attributes("svg", "viewbox")]
    # Overview, transverse, sagittal, coronal; in units of the smaller side of a voxel that each shows.
    for (width, height), (across, down) in zip(sizes, ((30, 55), (30, 12), (50, 12), (30, 50)), strict=True):
        assert width / height == pytest.approx(across / down, rel=0.05)
    assert html.count("box alone") == 4
    assert all(mark in words(html) for mark in ("5 mm", "10 mm"))
    first = Image.open(io.BytesIO(base64.b64decode(Page(html).attributes("image", "href")[1].split(",")[1])))
    np.testing.assert_array_equal(np.asarray(first), sitk.GetArrayFromImage(image)[24])


def test_training_on_phantoms_is_said_first():
    image = volume()
    text = words(report.report_html(study_of(image, TWO[0]), image))
    assert "Trained on phantoms." in text and "d1: 400 phantom volumes (split train)" in text
    assert text.index("Trained on phantoms.") < text.index("Overview")
    real = study_of(image, TWO[0], models=[{**MODEL, "trained_on": "100 volumes of TDSC-ABUS"}, MODEL])
    assert "phantom" not in words(report.report_html(real, image)).lower()


def test_the_operating_point_is_told_as_chosen():
    image = volume()
    chosen = {"options": {"threshold": 0.1}, "operating_point": {"threshold": 0.1, "maximum": 3}}
    text = words(report.report_html(study_of(image, TWO[0], **chosen), image))
    assert "score of 0.100 or more (chosen by the user); at most 3, the surest." in text
    old = study_of(image, TWO[0])
    del old.provenance["operating_point"]
    assert "Reported are" not in words(report.report_html(old, image))


def test_no_lesion_in_a_volume_is_an_ordinary_result():
    image = volume()
    html = report.report_html(study_of(image), image)
    text = words(html)
    assert "No lesion found." in text and "This is an ordinary result" in text and "0.420 or more" in text
    assert "The middle of the volume" in text and "Show boxes" not in text and "error" not in text.lower()
    assert len(Page(html).attributes("svg", "viewbox")) == 4 and "<rect" not in html


def test_volumes_without_spacing_have_no_millimetres():
    image = volume(spacing=(1, 1, 1))
    text = words(report.report_html(study_of(image, TWO[0], spacing_known=False), image))
    assert "figures are in pixels" in text and "Size, pixels" in text
    assert not re.search(r"\bmm\b", text)


def test_so_many_findings_are_pictured_and_all_are_listed():
    image = volume((60, 20, 30), (1, 1, 1), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    regions = [((1 + i * 2, 2, 3), (2, 5, 5)) for i in range(23)]
    study = study_of(image, *regions)
    study = replace(study, findings=tuple(replace(f, score=0.9 - i / 100) for i, f in enumerate(study.findings)))
    html = report.report_html(study, image)
    assert len(Page(html).attributes("svg", "viewbox")) == 1 + 3 * 20
    text = words(html)
    assert "Without pictures here, as there are so many: L21, L22, L23." in text and "L23 0.68" in text


def test_masks_in_volumes_bring_their_measurements():
    image = volume()
    html = report.report_html(study_of(image, TWO[0], masks=True), image)
    assert "Measurements" in words(html) and html.count('class="outline"') == 3


@pytest.mark.parametrize("size", [(2, 2, 2), (3, 200, 2), (200, 2, 3)])
def test_volumes_of_any_shape_have_a_report(size, tmp_path):
    image = volume(size, (1.0, 0.2, 3.0))
    for study in (study_of(image), study_of(image, ((0, 0, 0), size)), study_of(image, ((0, 0, 0), (1, 1, 1)))):
        report.write_report(study, image, tmp_path)
        assert {p.name for p in tmp_path.iterdir()} == {"report.html", "preview.jpg"}


@pytest.mark.parametrize("name", NASTY)
def test_names_cannot_break_the_page(name):
    image = volume()

    def page(text):
        study = study_of(image, TWO[0], name=f"/in/{text}", models=[{**PHANTOMS, "trained_on": f"phantoms {text}"}])
        return Page(report.report_html(replace(study, findings=(replace(study.findings[0], notes=(text,)),)), image))

    plain, nasty = page("x"), page(name)
    assert [t for t, _ in nasty.tags] == [t for t, _ in plain.tags]
    assert nasty.text.count(name.encode("utf-8", "surrogatepass").decode("utf-8", "replace")) >= 3


# ---------------------------------------------------------------------------------------------------------- scene


def test_the_scene_of_a_volume_has_boxes_centres_and_table_and_opens_at_the_first_finding(tmp_path):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    from test_mrml import _open

    from BreastUSAILib import mrml
    from BreastUSAILib.slicer_runtime import private_scene

    image = volume()
    study = study_of(image, *TWO)
    mrml.write_scene(tmp_path / "scene.mrb", image, study)
    with private_scene() as scene:
        _open(scene, tmp_path / "scene.mrb", tmp_path / "unzipped")
        node = scene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        table = scene.GetFirstNodeByClass("vtkMRMLTableNode")
        assert scene.GetNumberOfNodesByClass("vtkMRMLMarkupsROINode") == 2 and table.GetNumberOfRows() == 2
        assert scene.GetFirstNodeByClass("vtkMRMLMarkupsFiducialNode").GetNumberOfControlPoints() == 2
        assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
        back = mrml.study_from_nodes(node, table)
        for found, made in zip(back.findings, study.findings, strict=True):
            assert found.box.center == pytest.approx(made.box.center) and found.box.size == pytest.approx(made.box.size)
            assert (found.score, found.malignancy) == (made.score, made.malignancy)
        layout = scene.GetSingletonNode("vtkMRMLLayoutNode", "vtkMRMLLayoutNode")
        assert layout.GetViewArrangement() == layout.SlicerLayoutFourUpView
        x, y, z = study.findings[0].box.center
        normals = []
        for name in ("Red", "Green", "Yellow"):
            view = scene.GetSingletonNode(name, "vtkMRMLSliceNode")
            composite = scene.GetSingletonNode(name, "vtkMRMLSliceCompositeNode")
            assert composite.GetBackgroundVolumeID() == node.GetID()
            to_ras = np.array([[view.GetSliceToRAS().GetElement(r, c) for c in range(4)] for r in range(4)])
            # The finding's centre lies in the plane, and the plane is one of the volume's own.
            assert (np.linalg.inv(to_ras) @ (-x, -y, z, 1))[2] == pytest.approx(0, abs=1e-3)
            normals.append(np.abs(to_ras[:3, 2] @ (np.diag((-1, -1, 1)) @ np.reshape(TURN, (3, 3)))).round(3).tolist())
        assert sorted(normals) == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_the_scene_of_a_volume_without_findings_opens_too(tmp_path):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    from BreastUSAILib import mrml

    image = volume()
    assert mrml.write_scene(tmp_path / "scene.mrb", image, study_of(image)).stat().st_size > 1000


# -------------------------------------------------------------------------------------------------------- heatmap


def test_a_heatmap_lies_over_the_cuts_where_it_is_warm(tmp_path):
    image = volume()
    plain = study_of(image, TWO[0])
    array = np.zeros(image.GetSize()[::-1], np.float32)
    array[20:28, 6:16, 10:22] = 2.5  # the first finding's box, hotter than the last colour
    heat = sitk.GetImageFromArray(array)
    heat.CopyInformation(image)
    warm = replace(plain, heatmap=heat, findings=(replace(plain.findings[0], evidence={"heat_inside": 2.5}),))
    pages = [volume_page(study, image, "a.nrrd") for study in (plain, warm)]
    assert [page["heat"] for page in pages] == [False, True]
    assert all(cut["picture"]["over"] is None for cut in pages[0]["lesions"][0]["cuts"]["pictures"])
    for cut, seen in zip(pages[1]["lesions"][0]["cuts"]["pictures"], volume_pictures.cuts(heat, warm, warm.findings[0]), strict=True):
        over = np.asarray(Image.open(io.BytesIO(base64.b64decode(cut["picture"]["over"]))))
        assert over.shape == (*seen.view.pixels.shape, 4)
        opaque = over[..., 3] > 0
        left, top, right, bottom = (round(v) for v in seen.view.outlines[0].box)
        inside = np.zeros_like(opaque)
        inside[max(0, top) : bottom, max(0, left) : right] = True
        assert np.array_equal(opaque, inside)
    assert any(r["name"].lower().startswith("heat inside") for _, rows in pages[1]["lesions"][0]["tables"] for r in rows)


def test_the_scene_shows_the_heatmap_over_the_volume(tmp_path):
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    from test_mrml import _open

    from BreastUSAILib import mrml
    from BreastUSAILib.slicer_runtime import private_scene

    image = volume()
    heat = sitk.Cast(image, sitk.sitkFloat32) / 200
    mrml.write_scene(tmp_path / "scene.mrb", image, replace(study_of(image, TWO[0]), heatmap=heat))
    with private_scene() as scene:
        _open(scene, tmp_path / "scene.mrb", tmp_path / "unzipped")
        shown = scene.GetSingletonNode("Red", "vtkMRMLSliceCompositeNode")
        over = scene.GetNodeByID(shown.GetForegroundVolumeID())
        assert over.GetName() == "a heatmap" and shown.GetForegroundOpacity() == pytest.approx(0.3)
        assert over.GetImageData().GetScalarRange() == pytest.approx((0, 250 / 200))
        assert over.GetImageData().GetDimensions() == image.GetSize()
        assert shown.GetBackgroundVolumeID() != over.GetID()


@pytest.mark.parametrize("stored", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_the_coronal_picture_is_what_one_sees_from_the_skin(stored):
    """Not its mirror image, in whichever order lateral positions and slices are stored: three lesions, gone through in their order, turn to the
    same side as on the patient."""
    size, spacing = np.array(SIZE), np.array((0.5, 0.4, 1.1))
    body = volume(SIZE, spacing.tolist(), (1, 0, 0, 0, 1, 0, 0, 0, 1))  # patient's left, into the depth from the front, head
    places = [(15.0, 5.0, 10.0), (45.0, 5.0, 12.0), (20.0, 5.0, 40.0)]
    direction = np.diag((stored[0], 1, stored[1])).astype(float)
    image = sitk.GetImageFromArray(sitk.GetArrayFromImage(body)[:: stored[1], :, :: stored[0]].copy())
    image.SetSpacing(spacing.tolist())
    last = [0 if s > 0 else int(n) - 1 for s, n in zip((stored[0], 1, stored[1]), size, strict=True)]
    image.SetOrigin(body.TransformIndexToPhysicalPoint(last))
    image.SetDirection(direction.ravel().tolist())
    points = [body.TransformContinuousIndexToPhysicalPoint(p) for p in places]
    findings = tuple(Finding(f"L{i}", Box(p, (3.0, 3.0, 3.0)), 0.9) for i, p in enumerate(points, 1))
    view, _ = volume_pictures.projection(image, replace(study_of(image), findings=findings))
    drawn = [np.array([(o.box[0] + o.box[2]) / 2, (o.box[1] + o.box[3]) / 2]) for o in view.outlines]

    def side(a, b, c):
        return np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))

    lies = volume_pictures.seen_from_the_skin(image)
    # Both axes the other way is the picture turned by half a turn, and no mirror image of it.
    # The identity is what a file that states no axes has: nothing is said of sides then.
    wanted = "the patient's left on the right, head up" if stored[0] > 0 else "the patient's right on the right, head down"
    assert lies == ("" if stored == (1, 1) else wanted)
    if stored[0] > 0:
        assert drawn[2][1] < drawn[0][1] < 50 and drawn[1][0] > drawn[0][0]
    # Facing the patient: her left is to the right, her head up, so that down is away from the head.
    seen = [np.array([p[0], -p[2]]) for p in points]
    assert side(*drawn) == side(*seen)
