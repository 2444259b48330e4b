"""The fifth generator of ABUS volumes, to train on: reproducible, exact in its labels, read by what training reads, wide, and no kin of the others."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "Testing" / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
try:
    import fifth_generator
    from fifth_abus.background import STYLES
    from fifth_abus.fields import half, random_field, upsample
    from fifth_abus.lesion_plan import ECHOES, FORMS, MALIGNANT, draw_plan
    from fifth_abus.lesion_shape import LEAST_MM3, shape_of
    from fifth_abus.records import descriptors
    from fifth_abus.speckle import UNIT, Speckle, speckle_field
    from fifth_abus.volume import make_volume
finally:
    sys.path.remove(str(BENCHMARKS))

from BreastUSAILib.errors import DataError  # noqa: E402
from BreastUSAILib.evaluation.volume_data import read_volumes  # noqa: E402
from BreastUSAILib.phantom import truth  # noqa: E402
from BreastUSAILib.phantom.layouts import read_native  # noqa: E402

SIZE = (128, 80, 119)
WORDS = {
    "shape": truth.SHAPES,
    "orientation": truth.ORIENTATIONS,
    "margin": truth.MARGINS,
    "echo_pattern": truth.ECHO_PATTERNS,
    "posterior_features": truth.POSTERIOR_FEATURES,
    "calcifications": truth.CALCIFICATIONS,
    "halo": truth.HALO,
}
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def made(folder: Path, *options: str, number: int = 6, seed: int = 3) -> int:
    size = map(str, SIZE)
    return fifth_generator.main(
        ["--n", str(number), "--seed", str(seed), "--size", *size, "--output", str(folder), *options]
    )


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fifth")
    assert made(folder) == 0
    return folder


@pytest.fixture(scope="module")
def small_volumes() -> list:
    return [make_volume(7, index, (128, 90, 128)) for index in range(40)]


def test_a_seed_gives_the_same_volume_and_another_gives_another():
    first, again, other = (make_volume(seed, 1, (96, 64, 97)) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.labels, again.labels)
    assert first.spacing_mm == again.spacing_mm and first.facts == again.facts and first.facts != other.facts
    assert first.image.shape == other.image.shape == (97, 64, 96) and not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("size", [(32, 32, 32), (33, 100, 47)])
def test_the_smallest_volumes_can_be_made(size):
    for index in range(3):
        assert make_volume(1, index, size).image.shape == size[::-1]


def test_training_reads_the_data_set_with_its_exact_truth(data_set):
    cases = read_volumes(data_set, ["train"])
    assert len(cases) == 6 and sum(len(case.lesions) for case in cases) > 2
    with pytest.raises(DataError, match="holds no phantoms for test, validation"):
        read_volumes(data_set, ["test", "validation"])
    for case in cases:
        image, labels, true = case.read_labels()
        array = sitk.GetArrayViewFromImage(labels)
        assert image.GetSize() == SIZE and set(np.unique(array)) == {0, *(lesion.label for lesion in true)}
        _, listed = case.read()  # raises where a box lies outside
        for lesion, said in zip(true, listed, strict=True):
            inside = np.argwhere(array == lesion.label)[:, ::-1]
            corners = [
                image.TransformContinuousIndexToPhysicalPoint(v.tolist())
                for v in (inside.min(0) - 0.5, inside.max(0) + 0.5)
            ]
            assert np.allclose(np.subtract(said.box.center, np.divide(said.box.size, 2)), corners[0])
            assert np.allclose(np.add(said.box.center, np.divide(said.box.size, 2)), corners[1])
            assert said.volume_ml == pytest.approx(lesion.volume_ml)


def test_records_speak_the_lexicon_and_do_not_make_up_a_posterior(data_set):
    lesions = [lesion for record in read_native(data_set) for lesion in record.lesions]
    assert lesions and all(lesion.posterior is None and lesion.category is None for lesion in lesions)
    for lesion in lesions:
        assert all(getattr(lesion.descriptors, name) in known for name, known in WORDS.items()), lesion
        deeper = lesion.size[1] > max(lesion.size[0], lesion.size[2])
        assert (lesion.descriptors.orientation == "not parallel") == deeper
    assert {record.facts["style"] for record in read_native(data_set)} <= set(STYLES)


def test_series_and_splits_are_not_mixed(data_set, capsys):
    for other in ({"seed": 4}, {"number": 2}):
        with pytest.raises(SystemExit):
            made(data_set, **other)
        assert "of another series" in capsys.readouterr().err
    for split in ("validation", "test"):  # nothing is measured on them
        with pytest.raises(SystemExit):
            made(data_set, "--split", split)


def test_a_split_can_be_asked_for(tmp_path):
    assert made(tmp_path, "--split", "validation", number=1, seed=0) == 0
    (case,) = read_volumes(tmp_path, ["validation"])
    assert case.id == "fifth-0-0000"
    record = json.loads((tmp_path / "records" / "fifth-0-0000.json").read_text())
    assert (record["seed"], record["software"]) == (0, "fifth generator 1")


def test_lesions_are_whole_in_the_picture_and_apart(small_volumes):
    for volume in small_volumes:
        black = (volume.image == 0).all(axis=1)  # margins, from top to bottom
        for lesion in volume.lesions:
            inside = volume.labels == lesion.label
            assert ndimage.label(inside)[1] == 1
            assert not black[inside.any(axis=1)].all() and np.argwhere(inside)[:, 1].min() > 1
        near = ndimage.grey_dilation(volume.labels, size=3)
        assert all(set(np.unique(near[volume.labels == n.label])) == {n.label} for n in volume.lesions)


def test_lesions_are_as_dark_or_bright_as_their_echo_patterns_say(small_volumes):
    """In grey levels against what lies beside them at the same depths, on average: shadows and gains blur each single one."""
    differences: dict[str, list[float]] = {}
    for volume in small_volumes:
        for lesion in volume.lesions:
            inside = volume.labels == lesion.label
            place = np.argwhere(inside)
            (z0, y0, x0), (z1, y1, x1) = place.min(0), place.max(0) + 1
            about = slice(max(z0 - 5, 0), z1 + 5), slice(y0, y1), slice(max(x0 - 5, 0), x1 + 5)
            grey, tissue = volume.image[about].astype(float), volume.labels[about] == 0
            differences.setdefault(lesion.plan.echo, []).append(grey[inside[about]].mean() - grey[tissue].mean())
            sign = 1 if lesion.plan.echo == "hyperechoic" else -1
            assert lesion.plan.echo == "isoechoic" or sign * lesion.contrast_db > 1
    assert sum(map(len, differences.values())) >= 25
    assert np.mean(differences["anechoic"]) < np.mean(differences["hypoechoic"]) < -8
    assert np.mean(differences["hyperechoic"]) > 3


def test_volumes_differ_widely(small_volumes):
    means, deviations = (np.array([f(v.image) for v in small_volumes]) for f in (np.mean, np.std))
    assert means.min() < 45 and means.max() > 120 and deviations.max() > 2.5 * deviations.min()
    assert len({v.facts["style"] for v in small_volumes}) >= 7 and {v.facts["curve"] for v in small_volumes} == {
        "log",
        "power",
        "sigmoid",
    }
    assert {0, 1, 2} <= {len(v.lesions) for v in small_volumes}
    for volume in small_volumes:
        x, y, z = volume.spacing_mm
        assert 0.33 <= x <= 0.42 and 0.42 <= y <= 0.6 and 0.38 <= z <= 0.55


def test_plans_overlap_in_every_look_and_give_words_of_the_lexicon():
    rng = np.random.default_rng(0)
    plans = [draw_plan(rng, 32.0) for _ in range(3000)]
    assert np.mean([plan.malignant for plan in plans]) == pytest.approx(MALIGNANT, abs=0.03)
    for malignant in (True, False):
        those = [plan for plan in plans if plan.malignant == malignant]
        assert {plan.form for plan in those} == set(FORMS) and {plan.echo for plan in those} == set(ECHOES)
    for plan in plans:
        words = descriptors(plan, [2 * r for r in plan.radii[::-1]])
        assert all(words[name] in known for name, known in WORDS.items())
        assert (plan.shade_db != 0) == (plan.posterior != "none")
    volumes = np.array([plan.volume_ml for plan in plans])
    assert volumes.min() >= 0.05 and 4 < volumes.max() < 17 and 0.3 < np.mean(volumes < 0.5) < 0.8


@pytest.mark.parametrize("form", FORMS)
def test_shapes_are_one_piece_within_their_box(form):
    rng = np.random.default_rng(1)
    plans = [plan for plan in (draw_plan(rng, 20.0) for _ in range(200)) if plan.form == form][:6]
    assert len(plans) >= 4
    shapes = [shape_of(rng, plan, (0.45, 0.5, 0.38)) for plan in plans]
    assert sum(shape is not None for shape in shapes) >= 4
    for value, mask in filter(None, shapes):
        assert ndimage.label(mask)[1] == 1 and mask.sum() * 0.45 * 0.5 * 0.38 >= LEAST_MM3
        assert mask.sum() == (value < 1).sum() and not mask[[0, -1]].any() and not mask[:, :, [0, -1]].any()


def test_fields_have_unit_variance_and_speckle_its_mean():
    field = random_field(np.random.default_rng(1), (200, 300), (0.5, 0.5), (2.0, 6.0))
    assert field.std() == pytest.approx(1, abs=0.1) and abs(field.mean()) < 0.15
    for law in ("rayleigh", "gamma", "lognormal", "k"):
        for coarseness in ((0, 0, 0), (2, 1, 4), (8, 8, 8)):
            grains = speckle_field(np.random.default_rng(2), (40, 50, 60), Speckle(coarseness, law, 2.0, 1.0, True))
            assert (10 ** (grains / UNIT / 20)).mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("nz", "nx"), [(8, 10), (7, 9)])
def test_the_half_grid_lies_on_even_voxels(nz, nx):
    z, x = np.meshgrid(np.arange(half(nz)), np.arange(half(nx)), indexing="ij")
    coarse = (2 * z + 20 * x)[:, None, :].astype(np.float32)
    expected = np.arange(nz)[:, None, None] + 10 * np.arange(nx)[None, None, :]
    assert np.array_equal(upsample(coarse, nz, nx), expected)


def test_it_imports_nothing_of_the_other_generators():
    files = [BENCHMARKS / "fifth_generator.py", *(BENCHMARKS / "fifth_abus").glob("*.py")]
    assert len(files) > 10
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            for name in names:
                known = {"numpy", "scipy", "fifth_abus", "abus_command", "abus_records", *sys.stdlib_module_names}
                assert name.split(".")[0] in known, (file, name)
