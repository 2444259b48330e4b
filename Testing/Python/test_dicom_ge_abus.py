"""GE Invenia ABUS volumes: the grid, and positions in the body, as Slicer's DICOMGeAbusPlugin has them."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from dicom_samples import INVENIA_RADIUS_MM, ge_abus, save, speckle
from hypothesis import assume, given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian
from slicer_dicom_reader import LPS, GeAbusPlugin, read_with_slicer

from BreastUSAILib.acquisition import CurvedAcquisition
from BreastUSAILib.errors import DataError, ImageError
from BreastUSAILib.files import read_study, write_study
from BreastUSAILib.findings import Box, Finding, Study, study_schema
from BreastUSAILib.image import read_image

SPACING = (0.2, 0.073, 0.475674)
VOXELS = speckle((7, 30, 45))
SIZE = VOXELS.shape[::-1]


def write(folder, **options):
    return save(ge_abus(VOXELS, SPACING, **options), folder / "volume.dcm")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return read_image(write(tmp_path_factory.mktemp("ge")))


# ------------------------------------------------------------------------------------------- against Slicer's reader


def test_the_grid_is_slicers_voxel_for_voxel_and_point_for_point(loaded):
    pytest.importorskip("slicer")
    import SimpleITK as sitk

    voxels, _ = read_with_slicer([loaded.path], "GDCM")  # as the plugin reads the pixels
    np.testing.assert_array_equal(sitk.GetArrayFromImage(loaded.image), voxels)
    plugin = GeAbusPlugin(SIZE, SPACING, INVENIA_RADIUS_MM)
    for ijk in np.ndindex(2, 2, 2):
        corner = [int(c * (n - 1)) for c, n in zip(ijk, SIZE, strict=True)]
        expected = (LPS @ plugin.ijk_to_ras @ [*corner, 1])[:3]
        np.testing.assert_allclose(loaded.image.TransformIndexToPhysicalPoint(corner), expected, atol=1e-9)


def test_positions_in_the_body_are_slicers(loaded):
    pytest.importorskip("slicer")
    plugin = GeAbusPlugin(SIZE, SPACING, INVENIA_RADIUS_MM)
    for ijk in np.random.default_rng(0).uniform(0, np.array(SIZE) - 1, (200, 3)):
        grid = loaded.image.TransformContinuousIndexToPhysicalPoint(ijk.tolist())
        ours = loaded.acquisition.to_physical(grid)
        np.testing.assert_allclose(ours, LPS[:3, :3] @ plugin.target_ras(ijk), atol=1e-9)
        # Slicer interpolates linearly between control points some 5 mm apart: R (1 - cos(2.5 / R)) is 0.01 mm.
        np.testing.assert_allclose(ours, plugin.through_transform(ijk), atol=0.01)
    for i, j, k in zip(*(c[:-1] for c in plugin.control), strict=False):
        grid = loaded.image.TransformIndexToPhysicalPoint((i, j, k))
        np.testing.assert_allclose(loaded.acquisition.to_physical(grid), plugin.through_transform((i, j, k)), atol=1e-6)


def test_a_full_size_volume_lies_where_its_corners_must():
    """865 scan lines of 0.2 mm on a face of 442.11 mm: 22.4 degrees, 171 mm across the face, 152 mm at 49.7 mm depth."""
    sx, sy, sz = SPACING
    size = (865, 682, 348)
    acquisition = CurvedAcquisition(INVENIA_RADIUS_MM, (-sx / 2, 0.0, -sz / 2))
    origin = np.array([-size[0] * sx / 2, 0, -size[2] * sz / 2])
    left, right = (acquisition.to_physical(origin + [i * sx, 0, 0]) for i in (0, size[0] - 1))
    half = (size[0] - 1) * sx / 2 / INVENIA_RADIUS_MM
    np.testing.assert_allclose(
        right, [INVENIA_RADIUS_MM * np.sin(half), INVENIA_RADIUS_MM * (1 - np.cos(half)), -(size[2] - 1) / 2 * sz]
    )
    np.testing.assert_allclose(left, right * [-1, 1, 1])
    assert right[1] == pytest.approx(8.42, abs=0.01)  # the ends of the face stand that much deeper than its middle
    deep = acquisition.to_physical(origin + [(size[0] - 1) * sx, (size[1] - 1) * sy, 0])
    assert deep[0] == pytest.approx(76.20, abs=0.01)


# ------------------------------------------------------------------------------------------------------ the geometry

RADII = st.one_of(st.floats(60, 2000), st.floats(-2000, -60))
COORDINATES = st.tuples(st.floats(-80, 80), st.floats(0, 55), st.floats(-90, 90))


@given(radius=RADII, middle=COORDINATES, offset=COORDINATES)
def test_there_and_back(radius, middle, offset):
    acquisition = CurvedAcquisition(radius, middle)
    grid = np.add(middle, offset)
    np.testing.assert_allclose(acquisition.from_physical(acquisition.to_physical(grid)), grid, atol=1e-6)


@given(radius=RADII, offset=COORDINATES)
def test_scale_and_axes_are_the_derivative(radius, offset):
    acquisition = CurvedAcquisition(radius, (1.0, 2.0, 3.0))
    point, h = np.add((1.0, 2.0, 3.0), offset), 1e-4
    jacobian = np.stack(
        [
            (acquisition.to_physical(point + h * e) - acquisition.to_physical(point - h * e)) / (2 * h)
            for e in np.eye(3)
        ],
        axis=1,
    )
    expected = acquisition.axes(point) * [float(acquisition.lateral_scale(point)), 1, 1]
    np.testing.assert_allclose(jacobian, expected, atol=1e-5)


@given(center=COORDINATES, size=st.tuples(*[st.floats(1, 40)] * 3))
def test_a_boxs_size_in_the_body(center, size):
    """Its faces in the body, found by walking from the centre, are as far apart as the size says."""
    acquisition = CurvedAcquisition(INVENIA_RADIUS_MM, (0.0, 0.0, 0.0))
    middle, extent = acquisition.physical_extent(center, size)
    np.testing.assert_allclose(middle, acquisition.to_physical(center))
    for axis in range(3):
        way = np.linspace(-0.5, 0.5, 2001)[:, None] * np.eye(3)[axis] * size[axis]
        walked = np.linalg.norm(np.diff(acquisition.to_physical(np.add(center, way)), axis=0), axis=1).sum()
        assert walked == pytest.approx(extent[axis], rel=1e-6)
    assume(size[0] <= 60)
    ends = acquisition.to_physical(np.add(center, [[-size[0] / 2, 0, 0], [size[0] / 2, 0, 0]]))
    assert np.linalg.norm(ends[1] - ends[0]) == pytest.approx(extent[0], rel=1e-3)


def test_many_points_at_once():
    acquisition = CurvedAcquisition(100, (0, 0, 0))
    points = np.random.default_rng(1).uniform(-20, 20, (4, 5, 3))
    together = acquisition.to_physical(points)
    assert together.shape == (4, 5, 3)
    np.testing.assert_array_equal(together[2, 3], acquisition.to_physical(points[2, 3]))


@pytest.mark.parametrize("radius", [0, float("nan"), float("inf")])
def test_no_such_transducer(radius):
    with pytest.raises(DataError, match="radius"):
        CurvedAcquisition(radius, (0, 0, 0))


# ---------------------------------------------------------------------------------------------------------- in files


@pytest.mark.parametrize("creator", ["U-Systems", "General Electric Company 01"])
@pytest.mark.parametrize("block", [0x10, 0x5A])
def test_private_elements_are_found_by_their_creator(tmp_path, creator, block):
    loaded = read_image(write(tmp_path, creator=creator, block=block, radius=300.0))
    assert loaded.acquisition.radius == 300


def test_private_elements_beside_those_of_others(tmp_path):
    ds = ge_abus(VOXELS, SPACING, block=0x11)
    ds.add_new((0x0021, 0x0010), "LO", "SOMEBODY ELSE")
    ds.add_new((0x0021, 0x1040), "FD", 7.0)
    assert read_image(save(ds, tmp_path / "a.dcm")).acquisition.radius == INVENIA_RADIUS_MM


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_transfer_syntaxes(tmp_path, syntax):
    ds = ge_abus(VOXELS, SPACING, syntax=syntax)
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    assert loaded.acquisition.radius == pytest.approx(INVENIA_RADIUS_MM)


@pytest.mark.parametrize(
    ("vr", "stored"),
    [
        ("DS", "442.11"),
        ("LO", " 442.11 "),
        ("FL", 442.11),
        ("UN", b"442.11"),
        ("UN", struct.pack("<f", 442.11)),
        ("UN", struct.pack("<d", 442.11)),
    ],
)
def test_the_radius_whatever_its_type(tmp_path, vr, stored):
    ds = ge_abus(VOXELS, SPACING)
    del ds[0x0021, 0x1040]
    ds.add_new((0x0021, 0x1040), vr, stored)
    assert read_image(save(ds, tmp_path / "a.dcm")).acquisition.radius == pytest.approx(INVENIA_RADIUS_MM, rel=1e-6)


def test_what_it_says_of_itself(loaded):
    assert (loaded.laterality, loaded.view) == ("R", "LAT")
    assert loaded.spacing_known
    assert loaded.image.GetSpacing() == pytest.approx(SPACING)
    assert any("curved transducer (radius 442.11 mm)" in note for note in loaded.notes)


def refusal(path, **options) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(path, **options)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(".")
    return str(caught.value)


def test_a_curved_track_is_refused(tmp_path):
    assert "curved track (radius 250 mm)" in refusal(write(tmp_path, track=250.0))


@pytest.mark.parametrize(("radius", "what"), [(0.0, "radius 0 mm"), (2.0, "radius 2 mm"), (0.8, "cannot see")])
def test_impossible_probes_are_refused(tmp_path, radius, what):
    assert what in refusal(write(tmp_path, radius=radius))


@pytest.mark.parametrize(
    ("tag", "what"),
    [
        ((0x0021, 0x1041), "track radius"),
        ((0x0021, 0x1063), "scan depth"),
        ((0x0018, 0x0088), "Spacing Between Slices"),
        ((0x0028, 0x0030), "Pixel Spacing"),
    ],
)
def test_what_the_geometry_needs(tmp_path, tag, what):
    ds = ge_abus(VOXELS, SPACING)
    del ds[tag]
    assert what in refusal(save(ds, tmp_path / "a.dcm"))


def test_a_radius_that_is_no_number(tmp_path):
    ds = ge_abus(VOXELS, SPACING)
    ds[0x0021, 0x1040] = ds[0x0021, 0x1040].__class__((0x0021, 0x1040), "LO", "unknown")
    assert "probe radius" in refusal(save(ds, tmp_path / "a.dcm"))


def test_another_spacing_would_break_the_geometry(tmp_path):
    assert "leave out the spacing" in refusal(write(tmp_path), spacing_mm=1)


def test_a_depth_that_disagrees_is_told(tmp_path):
    ds = ge_abus(VOXELS, SPACING)
    ds[0x0021, 0x1063].value = "5"
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    assert any("scan depth of 50 mm" in note and "2.19 mm" in note for note in loaded.notes)


def test_without_its_private_elements_it_is_a_flat_volume_and_says_so(tmp_path):
    ds = ge_abus(VOXELS, SPACING)
    ds.remove_private_tags()
    loaded = read_image(save(ds, tmp_path / "a.dcm"))
    assert loaded.acquisition is None
    assert loaded.image.GetSize() == SIZE
    assert any("curvature is not known" in note for note in loaded.notes)


# -------------------------------------------------------------------------------------------------------- in results


def study_of(loaded) -> Study:
    center = loaded.image.TransformContinuousIndexToPhysicalPoint([40.0, 20.0, 3.0])
    return Study(loaded.info, (Finding("L1", Box(center, (1.0, 0.5, 1.0)), 0.9),))


def test_a_study_gives_positions_in_the_body(loaded, tmp_path):
    import jsonschema

    study = study_of(loaded)
    write_study(study, tmp_path)
    data = json.loads((tmp_path / "study.json").read_text())
    jsonschema.validate(data, study_schema())
    assert data["image"]["acquisition"]["radius_mm"] == INVENIA_RADIUS_MM
    assert (data["image"]["laterality"], data["image"]["view"]) == ("R", "LAT")
    finding = data["findings"][0]
    distance, angle = INVENIA_RADIUS_MM - 20 * 0.073, 18 * 0.2 / INVENIA_RADIUS_MM
    expected = [distance * np.sin(angle), INVENIA_RADIUS_MM - distance * np.cos(angle), 0.0]
    np.testing.assert_allclose(finding["physical_box"]["center"], expected, atol=1e-9)
    np.testing.assert_allclose(finding["physical_box"]["size"], [distance / INVENIA_RADIUS_MM, 0.5, 1.0])
    assert finding["box"]["center"] == pytest.approx(list(study.findings[0].box.center))
    again = read_study(tmp_path)
    assert again.image == study.image
    assert again.findings == study.findings
    assert again.physical_box(again.findings[0]) == study.physical_box(study.findings[0])


def test_a_flat_grid_has_no_second_box(loaded):
    study = study_of(loaded)
    flat = replace(study, image=replace(study.image, acquisition=None))
    assert flat.physical_box(flat.findings[0]) == flat.findings[0].box
    assert "physical_box" not in flat.to_dict()["findings"][0]


def test_studies_of_earlier_versions_are_read(loaded):
    data = study_of(loaded).to_dict()
    for name in ("acquisition", "laterality", "view"):
        del data["image"][name]
    del data["findings"][0]["physical_box"]
    again = Study.from_json(json.dumps(data))
    assert (again.image.acquisition, again.image.laterality, again.image.view) == (None, None, None)


def test_an_acquisition_of_another_kind_is_not_guessed(loaded):
    data = study_of(loaded).to_dict()
    data["image"]["acquisition"]["kind"] = "tilted-fan"
    with pytest.raises(DataError, match="tilted-fan"):
        Study.from_json(json.dumps(data))


def test_tables_and_reports_give_positions_in_the_body(loaded):
    import csv

    from BreastUSAILib.files import findings_csv
    from BreastUSAILib.report import report_html

    study = study_of(loaded)
    center = study.physical_box(study.findings[0]).center
    (row,) = csv.DictReader(findings_csv([study]).splitlines())
    np.testing.assert_allclose([float(row[f"physical_center_{axis}_mm"]) for axis in "xyz"], center, rtol=1e-5)
    assert (row["laterality"], row["view"]) == ("R", "LAT")
    page = report_html(study, loaded.image)
    assert "Centre in the body (LPS)" in page and ", ".join(f"{v:.2f}" for v in center) in page
    assert "right, LAT view" in page
    assert "curved, radius 442.11 mm" in page
    flat = replace(study, image=replace(study.image, acquisition=None))
    (row,) = csv.DictReader(findings_csv([flat]).splitlines())
    assert row["physical_center_x_mm"] == row["center_x_mm"]
    assert "in the body" not in report_html(flat, loaded.image)


def test_a_scene_shows_the_volume_and_its_findings_in_the_body(loaded, tmp_path, capfd):
    pytest.importorskip("slicer")
    from BreastUSAILib import mrml
    from BreastUSAILib.slicer_runtime import private_scene

    plugin = GeAbusPlugin(SIZE, SPACING, INVENIA_RADIUS_MM)
    study = study_of(loaded)
    with private_scene() as scene:
        volume = mrml.add_volume(scene, loaded.image, "volume")
        node = mrml.add_acquisition_transform(scene, volume, loaded.acquisition)
        assert node.GetName() == "volume acquisition transform"
        for ijk in np.random.default_rng(2).uniform(0, np.array(SIZE) - 1, (50, 3)):
            world = [0.0, 0.0, 0.0]
            volume.TransformPointToWorld((plugin.ijk_to_ras @ [*ijk, 1])[:3], world)
            np.testing.assert_allclose(world, plugin.target_ras(ijk), atol=0.02)
        shown = mrml.show_detections(scene, study, volume)
        center = [0.0, 0.0, 0.0]
        shown.points.GetNthControlPointPositionWorld(0, center)
        np.testing.assert_allclose(LPS[:3, :3] @ center, study.physical_box(study.findings[0]).center, atol=0.02)
    assert mrml.write_scene(tmp_path / "scene.mrb", loaded.image, study).is_file()
    assert "non-linear" not in capfd.readouterr().err  # views are not laid along what is curved
    import zipfile

    with zipfile.ZipFile(tmp_path / "scene.mrb") as bundle:
        assert any("acquisition transform" in name for name in bundle.namelist())
