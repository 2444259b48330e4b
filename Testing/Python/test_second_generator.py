"""The second generator of ABUS volumes: reproducible, exact in its labels, read by what the evaluations read, and no kin of the project's own."""

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
    import second_generator
    from second_abus import lesion as lesions
    from second_abus.noise import smooth_noise
    from second_abus.volume import make_volume
finally:
    sys.path.remove(str(BENCHMARKS))

from BreastUSAILib.evaluation.volume_data import read_volumes  # noqa: E402

SIZE = (96, 100, 80)
pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(scope="module")
def data_set(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("second")
    assert second_generator.main(["--n", "4", "--seed", "3", "--size", *map(str, SIZE), "--output", str(folder)]) == 0
    return folder


def test_a_seed_gives_the_same_volume_and_another_gives_another():
    first, again, other = (make_volume(seed, 1, (64, 60, 48), 1) for seed in (5, 5, 6))
    assert np.array_equal(first.grey, again.grey) and np.array_equal(first.labels, again.labels)
    assert first.facts == again.facts and first.facts != other.facts
    assert not np.array_equal(first.grey, other.grey)


def test_evaluations_read_the_data_set_with_its_exact_truth(data_set):
    cases = read_volumes(data_set, ["test"])
    assert len(cases) == 4
    for case in cases:
        image, labels, true = case.read_labels()
        assert image.GetSize() == SIZE and 50 > np.ptp(sitk.GetArrayViewFromImage(labels)) == len(true)
        _, listed = case.read()  # raises where a box lies outside
        for lesion, said in zip(true, listed, strict=True):
            inside = np.argwhere(sitk.GetArrayViewFromImage(labels) == lesion.label)[:, ::-1]
            corners = [
                image.TransformContinuousIndexToPhysicalPoint(v.tolist())
                for v in (inside.min(0) - 0.5, inside.max(0) + 0.5)
            ]
            assert np.allclose(np.subtract(said.box.center, np.divide(said.box.size, 2)), corners[0])
            assert np.allclose(np.add(said.box.center, np.divide(said.box.size, 2)), corners[1])
            assert said.volume_ml == pytest.approx(lesion.volume_ml)
    assert any(case.lesions for case in cases)


def test_series_are_not_mixed(data_set, capsys):
    for other in (["--n", "4", "--seed", "4"], ["--n", "2", "--seed", "3"]):
        with pytest.raises(SystemExit):
            second_generator.main([*other, "--size", *map(str, SIZE), "--output", str(data_set)])
        assert "of another series" in capsys.readouterr().err


def test_a_run_that_was_stopped_makes_only_what_is_missing(data_set):
    kept, lost = sorted((data_set / "volumes").glob("*.nrrd"))[:2]
    before, bits = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    assert second_generator.main(["--n", "4", "--seed", "3", "--size", *map(str, SIZE), "--output", str(data_set)]) == 0
    assert kept.stat().st_mtime_ns == before and lost.read_bytes() == bits
    assert json.loads((data_set / "phantom.json").read_text())["volumes"] == {"test": 4}


@pytest.mark.parametrize(("pattern", "sign"), [("hypoechoic", -1), ("anechoic", -1), ("hyperechoic", 1)])
def test_a_lesion_is_as_dark_or_bright_as_its_echo_pattern_says(monkeypatch, pattern, sign):
    """In the map and, after speckle and compression, in grey levels."""
    table = {pattern: (1.0, 1.0)}
    plain = {
        "posterior_features": {"none": (1.0, 1.0)},
        "margin": {"circumscribed": (1.0, 1.0)},
        "halo": {"absent": (1.0, 1.0)},
    }
    monkeypatch.setattr(
        lesions, "TABLES", {**lesions.TABLES, **plain, "echo_pattern": table, "calcifications": {"none": (1.0, 1.0)}}
    )
    volume = make_volume(11, 0, (110, 100, 100), 1)
    (lesion,) = volume.lesions
    assert sign * lesion.contrast_db > 3
    inside = volume.labels == 1
    place = np.argwhere(inside)
    about = tuple(slice(max(a - 6, 0), b + 7) for a, b in zip(place.min(0), place.max(0), strict=True))
    grey, inside = volume.grey[about].astype(float), inside[about]
    assert sign * (grey[inside].mean() - grey[~inside].mean()) > 5


def test_a_lesion_has_the_volume_that_was_drawn_and_its_posterior_follows_bayes():
    random = np.random.default_rng(0)
    plans = [lesions.draw_plan(random) for _ in range(3000)]
    posterior, malignant = (np.array([getattr(p, name) for p in plans], float) for name in ("posterior", "malignant"))
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.0)):  # of what is called p, a share of p is malignant
        among = (posterior >= low) & (posterior <= high)
        assert malignant[among].mean() == pytest.approx(posterior[among].mean(), abs=0.06)
    volumes = np.array([p.volume_ml for p in plans])
    assert volumes.min() >= 0.05 and volumes.max() <= 15 and 0.7 < np.mean((volumes > 0.2) & (volumes < 3)) < 0.9
    assert np.mean([p.descriptors["echo_pattern"] in ("isoechoic", "hyperechoic") for p in plans]) < 0.08
    volume = make_volume(2, 0, (110, 100, 100), 1)
    (lesion,) = volume.lesions
    assert lesion.mask.sum() * np.prod(volume.spacing) / 1000 == pytest.approx(lesion.plan.volume_ml, rel=0.1)


def test_noise_has_unit_variance_and_the_length_that_was_asked_for():
    field = smooth_noise(np.random.default_rng(1), (200, 300), (4.0, 12.0))
    assert field.std() == pytest.approx(1, abs=0.1) and abs(field.mean()) < 0.15
    steps = [np.square(np.diff(field, axis=axis)).mean() for axis in (0, 1)]
    assert steps[0] / steps[1] == pytest.approx(9, rel=0.3)  # slopes go with 1 / length


def test_it_imports_nothing_of_the_projects_phantoms():
    files = [BENCHMARKS / "second_generator.py", *(BENCHMARKS / "second_abus").glob("*.py")]
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            assert not any(
                name.startswith("BreastUSAILib") and name.split(".")[1:2] not in (["atomic"], ["image"], ["errors"])
                for name in names
            ), file
