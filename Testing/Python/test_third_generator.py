"""The third generator of ABUS volumes, to train on: reproducible, exact in its labels, read by what training reads, and no kin of the other two."""

import ast
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "Testing" / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
try:
    import third_generator
    from third_abus.filters import upsample
    from third_abus.lesion_plan import KINDS, draw_plan
    from third_abus.noise import smooth
    from third_abus.volume import make_volume
finally:
    sys.path.remove(str(BENCHMARKS))

from BreastUSAILib.errors import DataError  # noqa: E402
from BreastUSAILib.evaluation.volume_data import read_volumes  # noqa: E402
from BreastUSAILib.phantom import truth  # noqa: E402
from BreastUSAILib.phantom.layouts import read_native  # noqa: E402

SIZE = (128, 80, 119)
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def made(folder: Path, *options: str, number: int = 5, seed: int = 3) -> int:
    size = map(str, SIZE)
    return third_generator.main(
        ["--n", str(number), "--seed", str(seed), "--size", *size, "--output", str(folder), *options]
    )


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("third")
    assert made(folder) == 0
    return folder


@pytest.fixture(scope="module")
def small_volumes() -> list:
    return [make_volume(7, index, (128, 80, 128)) for index in range(24)]


def test_a_seed_gives_the_same_volume_and_another_gives_another():
    first, again, other = (make_volume(seed, 1, (96, 64, 97)) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.labels, again.labels)
    assert first.spacing_mm == again.spacing_mm and first.facts == again.facts and first.facts != other.facts
    assert first.image.shape == other.image.shape == (97, 64, 96) and not np.array_equal(first.image, other.image)


def test_training_reads_the_data_set_with_its_exact_truth(data_set):
    cases = read_volumes(data_set, ["train"])
    assert len(cases) == 5 and 0 < sum(not case.lesions for case in cases) < 5
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
    for case in read_volumes(data_set, ["train"]):
        assert all(lesion.posterior is None and "category" not in lesion.descriptors for lesion in case.lesions)


def test_the_second_opinion_learns_its_lesions_by_pathology(data_set):
    lesion_classifier = pytest.importorskip("BreastUSAILib.training.lesion_classifier", exc_type=ImportError)
    cases = read_volumes(data_set, ["train"])
    crops = lesion_classifier._lesions(cases, lesion_classifier.LesionClassifierRecipe(shape=(16, 16, 16)))
    assert crops.told.tolist() == [float(lesion.malignant) for case in cases for lesion in case.lesions]


def test_series_and_splits_are_not_mixed(data_set, capsys):
    for other in ({"seed": 4}, {"number": 2}):
        with pytest.raises(SystemExit):
            made(data_set, **other)
        assert "of another series" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        made(data_set, "--split", "validation")
    assert "of another series" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # nothing is measured on them
        made(data_set, "--split", "test")


def test_a_split_can_be_asked_for(tmp_path):
    assert made(tmp_path, "--split", "validation", number=1, seed=0) == 0
    (case,) = read_volumes(tmp_path, ["validation"])
    assert case.id == "third-0-0000"
    record = json.loads((tmp_path / "records" / "third-0-0000.json").read_text())
    assert (record["seed"], record["software"]) == (0, "third generator 1")
    assert json.loads((tmp_path / "phantom.json").read_text())["volumes"] == {"validation": 1}


def test_a_run_that_was_stopped_makes_only_what_is_missing(data_set):
    kept, lost = sorted((data_set / "volumes").glob("*.nrrd"))[:2]
    before, bits = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    assert made(data_set) == 0
    assert kept.stat().st_mtime_ns == before and lost.read_bytes() == bits
    assert json.loads((data_set / "phantom.json").read_text())["volumes"] == {"train": 5}


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
            assert lesion.plan.echo == "isoechoic" or sign * lesion.contrast_db > 2
    assert sum(map(len, differences.values())) >= 20
    assert np.mean(differences["anechoic"]) < -25
    assert np.mean(differences["hypoechoic"] + differences["heterogeneous"]) < -15
    assert np.mean(differences["hyperechoic"]) > 0


def test_volumes_differ_widely(small_volumes):
    means = np.array([volume.image.mean() for volume in small_volumes])
    assert means.min() < 50 and means.max() > 110
    numbers = [len(volume.lesions) for volume in small_volumes]
    assert 0 in numbers and max(numbers) >= 3
    for volume in small_volumes:
        x, y, z = volume.spacing_mm
        assert 0.33 <= x <= 0.42 and 0.42 <= y <= 0.6 and 0.38 <= z <= 0.55


def test_plans_have_the_kinds_and_sizes_that_were_asked_for():
    rng = np.random.default_rng(0)
    plans = [draw_plan(rng, 30.0) for _ in range(2000)]
    for kind, share in KINDS.items():
        assert np.mean([plan.kind == kind for plan in plans]) == pytest.approx(share, abs=0.04)
    longest = np.array([2 * plan.radii.max() for plan in plans])
    assert longest.min() >= 3.9 and longest.max() <= 30 + 1e-9
    assert 0.35 < np.mean([plan.malignant for plan in plans]) < 0.5
    assert not any(plan.malignant for plan in plans if plan.kind in ("cyst", "cluster", "fibroadenoma", "iso", "hyper"))
    assert all((plan.through_db > 0) == (plan.posterior == "enhancement") for plan in plans)


def test_noise_has_unit_variance_and_the_length_that_was_asked_for():
    field = smooth(np.random.default_rng(1), (200, 300), (0.5, 0.5), (2.0, 6.0))
    assert field.std() == pytest.approx(1, abs=0.1) and abs(field.mean()) < 0.15
    steps = [np.square(np.diff(field, axis=axis)).mean() for axis in (0, 1)]
    assert steps[0] / steps[1] == pytest.approx(9, rel=0.3)  # slopes go with 1 / length


@pytest.mark.parametrize(("nz", "nx"), [(8, 10), (7, 9)])
def test_coarse_nodes_lie_on_even_voxels(nz, nx):
    z, x = np.meshgrid(np.arange(nz // 2 + 1), np.arange(nx // 2 + 1), indexing="ij")
    coarse = (2 * z + 20 * x)[:, None, :].astype(np.float32)
    expected = np.arange(nz)[:, None, None] + 10 * np.arange(nx)[None, None, :]
    assert np.array_equal(upsample(coarse, nz, nx), expected)
    assert np.array_equal(upsample(coarse, 4, 4, 2, 4), expected[2:6, :, 4:8])


def test_it_imports_nothing_of_the_other_generators():
    shared = [BENCHMARKS / name for name in ("third_generator.py", "abus_command.py", "abus_records.py")]
    files = [*shared, *(BENCHMARKS / "third_abus").glob("*.py")]
    assert len(files) > 15
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            for name in names:
                first, second = (name + ".").split(".")[:2]
                assert first != "second_abus" and "second" not in first, file
                assert first != "BreastUSAILib" or second in ("atomic", "image", "errors"), file
