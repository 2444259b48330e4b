"""One volume never both teaches and validates, whatever its copies are called."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hand_made_phantom import generate

from BreastUSAILib.errors import DataError
from BreastUSAILib.evaluation.volume_data import VolumeCase, read_volumes
from BreastUSAILib.phantom.grids import PhantomGrid
from BreastUSAILib.phantom.layouts import write_phantom, write_tables
from BreastUSAILib.phantom.seeds import volume_seed
from BreastUSAILib.phantom.spec import PhantomSpec
from BreastUSAILib.training import detect, detect_baseline, detection_data, heatmap, lesion_classifier, segment_3d
from BreastUSAILib.training.apart import check_volumes_apart

GRID = PhantomGrid((40, 20, 36), (0.8, 1.0, 0.9), top=2.0, whole=False)
RECIPES = {
    "detect": (detect, detect.DetectRecipe()),
    "detect-baseline": (detect_baseline, detect_baseline.BaselineRecipe()),
    "heatmap": (heatmap, heatmap.HeatmapRecipe()),
    "lesion-classifier": (lesion_classifier, lesion_classifier.LesionClassifierRecipe()),
    "segment-3d": (segment_3d, segment_3d.Segment3dRecipe()),
}


@pytest.fixture
def copied(tmp_path):
    """Two volumes of each split, of which one of the validation's is a training volume, lesions and all."""
    folder = tmp_path / "phantoms"
    for split in ("train", "validation"):
        for index, lesions in enumerate((1, 0)):
            spec = PhantomSpec(grid=GRID, lesions=lesions)
            taken = ("train", 0) if lesions else (split, index)
            write_phantom("native", folder, f"phantom-{split}-{index:010d}", split, spec, generate(volume_seed(*taken), spec))
    write_tables("native", folder)
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_a_volume_does_not_both_teach_and_validate(name, copied, tmp_path):
    module, recipe = RECIPES[name]
    one, other = (case.image for split in ("train", "validation") for case in read_volumes(copied, (split,)) if case.lesions)
    with pytest.raises(DataError) as told:
        module.train([copied], tmp_path / "out", recipe, device="cpu")
    assert str(told.value) == f"{one} and {other} are one volume, which cannot both teach and validate; leave one of them out of the data."
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_nor_in_folds(copied, tmp_path):
    recipe = replace(segment_3d.Segment3dRecipe(), folds=2, fold=0)
    shutil.copytree(copied, tmp_path / "again")  # of four copies one is always in the other fold
    named = [copied, tmp_path / "again"]
    assert len(detection_data.read_split(named, "train")) == 4
    with pytest.raises(DataError, match="are one volume, which cannot both teach and validate"):
        segment_3d.split_cases(named, recipe)


def case_of(path: Path) -> VolumeCase:
    return VolumeCase(path.stem, path.parent.name, "train", path, ())


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr", ".nrrd", ".nii"])
def test_what_a_file_holds_tells_volumes_apart(tmp_path, suffix):
    """Headers of volumes of one device are the same, and so are sizes and black edges of what is not compressed."""
    voxels = np.zeros((8, 128, 256), np.uint8)
    paths = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        voxels[-1, -1, -1] = 2 - number // 2  # the first two are one
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(folder / f"volume{suffix}"))
        paths.append(folder / f"volume{suffix}")
    one, same, another = map(case_of, paths)
    check_volumes_apart([one], [another])
    check_volumes_apart([one, same], [])
    check_volumes_apart([], [one])
    check_volumes_apart([another], [one, same])
    with pytest.raises(DataError, match=r"1.volume\S* and \S*0.volume\S* are one volume"):
        check_volumes_apart([another, same], [one])
