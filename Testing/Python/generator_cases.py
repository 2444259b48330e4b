"""What the tests of the independent generators of ABUS volumes share: their command, and checks of what each of them promises."""

import ast
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import SimpleITK as sitk

from BreastUSAILib.errors import DataError
from BreastUSAILib.evaluation.volume_data import VolumeCase, read_volumes
from BreastUSAILib.phantom.layouts import read_native
from BreastUSAILib.phantom.spec import DESCRIPTORS

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SIZE = (128, 80, 119)  # voxels (lateral, depth, slice)
SHARED = ("abus_command", "abus_records")
even_and_odd_sides = pytest.mark.parametrize(("nz", "nx"), [(8, 10), (7, 9)])


def make(generator: ModuleType, folder: Path, *options: str, number: int, seed: int, size=SIZE) -> int:
    """Run a generator's command; returns its exit status."""
    asked = ["--n", str(number), "--seed", str(seed), "--size", *map(str, size), "--output", str(folder)]
    return generator.main([*asked, *options])


def check_seeds(make_volume: Callable, size: tuple[int, int, int] = (96, 64, 97)) -> None:
    """A seed gives the same volume, another gives another; `size` is voxels (lateral, depth, slice)."""
    first, again, other = (make_volume(seed, 1, size) for seed in (5, 5, 6))
    assert np.array_equal(first.image, again.image) and np.array_equal(first.labels, again.labels)
    assert first.spacing_mm == again.spacing_mm and first.facts == again.facts and first.facts != other.facts
    assert first.image.shape == other.image.shape == size[::-1] and not np.array_equal(first.image, other.image)


def check_truth(folder: Path, split: str, number: int, size: tuple[int, int, int] = SIZE) -> list[VolumeCase]:
    """Training and evaluation read `number` volumes of a split and none of others, with boxes and volumes as labels have them; returns them."""
    cases = read_volumes(folder, [split])
    assert len(cases) == number
    others = [other for other in ("train", "validation", "test") if other != split]
    with pytest.raises(DataError, match=f"holds no phantoms for {', '.join(sorted(others))}"):
        read_volumes(folder, sorted(others))
    for case in cases:
        _check_labels(case, size)
    return cases


def _check_labels(case: VolumeCase, size: tuple[int, int, int]) -> None:
    image, labels, true = case.read_labels()
    array = sitk.GetArrayViewFromImage(labels)
    assert image.GetSize() == size
    assert [lesion.label for lesion in true] == list(range(1, len(true) + 1))
    assert set(np.unique(array)) == set(range(len(true) + 1))
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


def check_words(folder: Path) -> None:
    """Records speak the lexicon, lie as their boxes do, and do not make up a posterior."""
    lesions = [lesion for record in read_native(folder) for lesion in record.lesions]
    assert lesions and all(lesion.posterior is None and lesion.category is None for lesion in lesions)
    for lesion in lesions:
        assert all(getattr(lesion.descriptors, name) in known for name, known in DESCRIPTORS.items()), lesion
        deeper = lesion.size[1] > max(lesion.size[0], lesion.size[2])
        assert (lesion.descriptors.orientation == "not parallel") == deeper


def check_refused(made: Callable[..., int], folder: Path, capsys, *options: str, **other: int) -> None:
    """A command does not add to a folder of another series."""
    with pytest.raises(SystemExit):
        made(folder, *options, **other)
    assert "choose another --output" in capsys.readouterr().err


def check_stopped_run(made: Callable[..., int], folder: Path, volumes: dict[str, int]) -> None:
    """Where a volume is lost, it alone is made anew, with the same bits; `volumes` are the numbers of each split."""
    kept, lost = sorted((folder / "volumes").glob("*.nrrd"))[:2]
    before, bits = kept.stat().st_mtime_ns, lost.read_bytes()
    lost.unlink()
    assert made(folder) == 0
    assert kept.stat().st_mtime_ns == before and lost.read_bytes() == bits
    assert json.loads((folder / "phantom.json").read_text())["volumes"] == volumes


def check_validation(made: Callable[..., int], folder: Path, prefix: str) -> None:
    """Volumes for validation can be asked for, and say so."""
    assert made(folder, "--split", "validation", number=1, seed=0) == 0
    (case,) = read_volumes(folder, ["validation"])
    assert case.id == f"{prefix}-0-0000"
    record = json.loads((folder / "records" / f"{prefix}-0-0000.json").read_text())
    assert (record["seed"], record["software"]) == (0, f"{prefix} generator 1")
    assert json.loads((folder / "phantom.json").read_text())["volumes"] == {"validation": 1}


def grey_differences(volumes: Iterable) -> dict[str, list[float]]:
    """Grey levels of each lesion against what lies beside it at the same depths, by echo pattern."""
    differences: dict[str, list[float]] = {}
    for volume in volumes:
        for lesion in volume.lesions:
            inside = volume.labels == lesion.label
            place = np.argwhere(inside)
            (z0, y0, x0), (z1, y1, x1) = place.min(0), place.max(0) + 1
            about = slice(max(z0 - 5, 0), z1 + 5), slice(y0, y1), slice(max(x0 - 5, 0), x1 + 5)
            grey, tissue = volume.image[about].astype(float), volume.labels[about] == 0
            differences.setdefault(lesion.plan.echo, []).append(grey[inside[about]].mean() - grey[tissue].mean())
    return differences


def check_spacings(volumes: Iterable) -> None:
    """Voxels are those of ABUS halved on each axis, mm (lateral, depth, slice)."""
    for volume in volumes:
        x, y, z = volume.spacing_mm
        assert 0.33 <= x <= 0.42 and 0.42 <= y <= 0.6 and 0.38 <= z <= 0.55


def check_unit_variance(field: np.ndarray) -> None:
    assert field.std() == pytest.approx(1, abs=0.1) and abs(field.mean()) < 0.15


def check_noise(field: np.ndarray) -> None:
    """A field of two axes has unit variance, and along its second axis three times the length of the first."""
    check_unit_variance(field)
    steps = [np.square(np.diff(field, axis=axis)).mean() for axis in (0, 1)]
    assert steps[0] / steps[1] == pytest.approx(9, rel=0.3)  # slopes go with 1 / length


def ramps(nz: int, nx: int, half: Callable[[int], int]) -> tuple[np.ndarray, np.ndarray]:
    """The same ramp (slice, depth, lateral) on a coarse grid, of which `half` gives the nodes on a side, and on its nz x nx voxels."""
    z, x = np.meshgrid(np.arange(half(nz)), np.arange(half(nx)), indexing="ij")
    coarse = (2 * z + 20 * x)[:, None, :].astype(np.float32)
    return coarse, np.arange(nz)[:, None, None] + 10 * np.arange(nx)[None, None, :]


def check_independence(prefix: str, least: int) -> None:
    """A generator, of more than `least` files, imports nothing of the others nor of the project, and what they share imports none of them.

    Of the project, what is shared has what writes files and names errors, and nothing that makes phantoms.
    """
    own = [BENCHMARKS / f"{prefix}_generator.py", *(BENCHMARKS / f"{prefix}_abus").glob("*.py")]
    assert len(own) > least
    _check_imports(own, {"numpy", "scipy", f"{prefix}_abus", *SHARED})
    shared = [BENCHMARKS / f"{name}.py" for name in SHARED]
    project = {f"BreastUSAILib.{name}" for name in ("atomic", "image", "errors")}
    _check_imports(shared, {"numpy", "SimpleITK", "tqdm", *SHARED, *project})


def _check_imports(files: list[Path], allowed: set[str]) -> None:
    """All that the files import, beside the standard library and modules of their own folder, is or lies in one of the allowed modules."""
    allowed = allowed | sys.stdlib_module_names
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level < 2, file
                names += [node.module] if not node.level else []
            for name in names:
                assert any(f"{name}.".startswith(f"{known}.") for known in allowed), (file, name)
