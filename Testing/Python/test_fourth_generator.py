"""The fourth generator of ABUS volumes, to measure on: reproducible, exact in its labels, true to what it drew, and no kin of the others."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.ndimage import label as pieces

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "Testing" / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
try:
    import fourth_generator
    from fourth_abus import beam
    from fourth_abus.fields import noise, upsample
    from fourth_abus.lesion_draft import draw_kind, draw_plan
    from fourth_abus.lesion_plan import KINDS, MALIGNANT
    from fourth_abus.scanner import draw_scanner
    from fourth_abus.volume import make_volume
finally:
    sys.path.remove(str(BENCHMARKS))

from BreastUSAILib.errors import DataError  # noqa: E402
from BreastUSAILib.evaluation.volume_data import read_volumes  # noqa: E402
from BreastUSAILib.phantom import truth  # noqa: E402
from BreastUSAILib.phantom.layouts import read_native  # noqa: E402

SIZE = (128, 80, 119)
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def made(folder: Path, *options: str, number: int = 6, seed: int = 2) -> int:
    size = map(str, SIZE)
    return fourth_generator.main(
        ["--n", str(number), "--seed", str(seed), "--size", *size, "--output", str(folder), *options]
    )


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fourth")
    assert made(folder) == 0
    return folder


@pytest.fixture(scope="module")
def small_volumes() -> list:
    return [make_volume(10, index, (128, 80, 120)) for index in range(24)]


def test_a_seed_gives_the_same_volume_and_another_gives_another():
    first, again, other = (make_volume(seed, 1, (96, 64, 97)) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.labels, again.labels)
    assert first.spacing_mm == again.spacing_mm and first.facts == again.facts and first.facts != other.facts
    assert first.image.shape == other.image.shape == (97, 64, 96) and not np.array_equal(first.image, other.image)


def test_the_smallest_volumes_can_be_made():
    assert make_volume(0, 0, (32, 33, 35)).image.shape == (35, 33, 32)


def test_evaluation_reads_the_data_set_with_its_exact_truth(data_set):
    cases = read_volumes(data_set, ["test"])
    assert len(cases) == 6 and 0 < sum(not case.lesions for case in cases) < 6
    with pytest.raises(DataError, match="holds no phantoms for train, validation"):
        read_volumes(data_set, ["train", "validation"])  # nothing is taught or chosen with them
    for case in cases:
        image, labels, true = case.read_labels()
        array = sitk.GetArrayViewFromImage(labels)
        assert image.GetSize() == SIZE and set(np.unique(array)) == {0, *(lesion.label for lesion in true)}
        _, listed = case.read()  # raises where a box lies outside
        for lesion, said in zip(true, listed, strict=True):
            inside = np.argwhere(array == lesion.label)[:, ::-1]
            low, high = (
                image.TransformContinuousIndexToPhysicalPoint(v.tolist())
                for v in (inside.min(0) - 0.5, inside.max(0) + 0.5)
            )
            assert np.allclose(np.subtract(said.box.center, np.divide(said.box.size, 2)), low)
            assert np.allclose(np.add(said.box.center, np.divide(said.box.size, 2)), high)
            assert said.volume_ml == pytest.approx(lesion.volume_ml)


def test_records_speak_the_lexicon_and_do_not_make_up_a_posterior(data_set):
    lesions = [lesion for record in read_native(data_set) for lesion in record.lesions]
    assert lesions and all(lesion.posterior is None and lesion.category is None for lesion in lesions)
    words = {
        "shape": truth.SHAPES,
        "orientation": truth.ORIENTATIONS,
        "margin": truth.MARGINS,
        "echo_pattern": truth.ECHO_PATTERNS,
        "posterior_features": truth.POSTERIOR_FEATURES,
        "calcifications": truth.CALCIFICATIONS,
        "halo": truth.HALO,
    }
    for lesion in lesions:
        assert all(getattr(lesion.descriptors, name) in known for name, known in words.items()), lesion
        deeper = lesion.size[1] > max(lesion.size[0], lesion.size[2])
        assert (lesion.descriptors.orientation == "not parallel") == deeper


def test_series_are_not_mixed(data_set, capsys):
    for other in ({"seed": 9}, {"number": 2}):
        with pytest.raises(SystemExit):
            made(data_set, **other)
        assert "of another series" in capsys.readouterr().err


def test_records_say_who_made_them(data_set):
    record = json.loads((data_set / "records" / "fourth-2-0000.json").read_text())
    assert (record["seed"], record["software"], record["split"]) == (200_000, "fourth generator 1", "test")


def test_labels_are_whole_and_of_the_sizes_asked_for(small_volumes):
    volumes_ml = []
    for volume in small_volumes:
        assert set(np.unique(volume.labels)) == {0, *(lesion.label for lesion in volume.lesions)}
        for lesion in volume.lesions:
            inside = volume.labels == lesion.label
            volumes_ml.append(inside.sum() * np.prod(volume.spacing_mm) / 1000)
            assert pieces(inside, np.ones((3, 3, 3)))[1] == 1
    assert 0.03 < min(volumes_ml) < 0.3 and 0.5 < max(volumes_ml) < 11


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
            if lesion.plan.echo in ("anechoic", "hypoechoic"):
                assert lesion.contrast_db < -1
    assert sum(map(len, differences.values())) >= 20
    assert np.mean(differences["anechoic"]) < -25
    assert np.mean(differences["hypoechoic"]) < -15
    assert np.mean(differences["hyperechoic"]) > 5


def test_what_lies_behind_lesions_is_what_was_written(small_volumes):
    """In grey levels a little below them, against the same depths beside them."""
    behind: dict[str, list[float]] = {"none": [], "shadowing": [], "enhancement": []}
    for volume in small_volumes:
        for lesion in volume.lesions:
            (z0, _, x0), (z1, y1, x1) = (f(np.argwhere(volume.labels == lesion.label), 0) for f in (np.min, np.max))
            dz, dx = (z1 - z0) // 4, (x1 - x0) // 4
            rows = volume.image[max(z0 - 3 * dz, 0) : z1 + 3 * dz, y1 + 3 : y1 + 11].astype(float)
            here = volume.image[z0 + dz : z1 - dz + 1, y1 + 3 : y1 + 11, x0 + dx : x1 - dx + 1].astype(float)
            beside = np.concatenate(
                [rows[..., max(x0 - 3 * dx - 6, 0) : max(x0 - 2, 0)], rows[..., x1 + 3 : x1 + 3 * dx + 7]], -1
            )
            if here.size and beside.size and lesion.posterior in behind:
                behind[lesion.posterior].append(here.mean() - beside.mean())
    assert np.mean(behind["shadowing"]) < np.mean(behind["none"]) - 5
    assert np.mean(behind["enhancement"]) > np.mean(behind["none"]) + 5


def test_volumes_differ_widely(small_volumes):
    means = np.array([volume.image.mean() for volume in small_volumes])
    assert means.min() < 75 and means.max() > 125
    numbers = [len(volume.lesions) for volume in small_volumes]
    assert 0 in numbers and max(numbers) >= 2
    assert len({volume.facts["density"] for volume in small_volumes}) == 4
    assert any(volume.facts["distractors"] for volume in small_volumes)
    for volume in small_volumes:
        x, y, z = volume.spacing_mm
        assert 0.33 <= x <= 0.42 and 0.42 <= y <= 0.6 and 0.38 <= z <= 0.55


def test_plans_have_the_kinds_and_sizes_that_were_asked_for():
    rng = np.random.default_rng(0)
    plans = [draw_plan(rng, draw_kind(rng)) for _ in range(2000)]
    for kind, share in KINDS.items():
        assert np.mean([plan.kind == kind for plan in plans]) == pytest.approx(share, abs=0.04)
    longest = np.array([2 * plan.radii.max() for plan in plans])
    assert longest.min() >= 3.5 and longest.max() <= 32.01
    assert 0.38 < np.mean([plan.malignant for plan in plans]) < 0.48
    assert all(plan.malignant == (plan.kind in MALIGNANT) for plan in plans)


def test_losses_add_up_along_the_beam():
    scanner = draw_scanner(np.random.default_rng(0), (20, 40, 20), (0.4, 0.5, 0.4))
    alpha = np.full((10, 40, 10), 0.5, np.float32)
    lost = beam.losses(alpha, np.full((10, 10), 3.0), scanner, 0.5)
    expected = 3 + 2 * scanner.mhz * 0.5 * (np.arange(40) + 0.5) * 0.05
    assert np.allclose(lost, expected[None, :, None], rtol=1e-4)
    level = beam.heard(lost, expected - 3, scanner)
    assert np.all(level < 0) and level.min() > -scanner.fill_db


def test_noise_has_unit_variance_and_the_length_that_was_asked_for():
    axes = (np.arange(200) * 0.5, np.arange(300) * 0.5)
    field = noise(np.random.default_rng(1), axes, (2.0, 6.0))
    assert field.std() == pytest.approx(1, abs=0.1) and abs(field.mean()) < 0.15
    steps = [np.square(np.diff(field, axis=axis)).mean() for axis in (0, 1)]
    assert steps[0] / steps[1] == pytest.approx(9, rel=0.3)  # slopes go with 1 / length


@pytest.mark.parametrize(("nz", "nx"), [(8, 10), (7, 9)])
def test_coarse_nodes_lie_on_even_voxels(nz, nx):
    z, x = np.meshgrid(np.arange(nz // 2 + 1), np.arange(nx // 2 + 1), indexing="ij")
    coarse = (2 * z + 20 * x)[:, None, :].astype(np.float32)
    expected = np.arange(nz)[:, None, None] + 10 * np.arange(nx)[None, None, :]
    assert np.array_equal(upsample(coarse, nz, nx), expected)


def test_it_imports_nothing_of_the_other_generators():
    shared = [BENCHMARKS / name for name in ("fourth_generator.py", "abus_command.py", "abus_records.py")]
    files = [*shared, *(BENCHMARKS / "fourth_abus").glob("*.py")]
    assert len(files) > 13
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                first, second = (name + ".").split(".")[:2]
                assert not first.startswith(("second", "third")), file
                assert first != "BreastUSAILib" or second in ("atomic", "image", "errors"), file
