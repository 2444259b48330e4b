"""Bad volumes through ``breastusai detect`` and ``run``, as files on disk: clear words, or a result that holds; never a wrong box.

One small real network, whose weights are not learnt, so every candidate is reported; what is judged is where boxes may lie.
"""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from hand_made_phantom import generate
from small_models import detector_folder

from BreastUSAILib import cli
from BreastUSAILib.errors import DataError, ImageError
from BreastUSAILib.files import read_study
from BreastUSAILib.grid import physical_to_index
from BreastUSAILib.image import read_image
from BreastUSAILib.workup import DetectionOptions, run_detection


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return detector_folder(tmp_path_factory.mktemp("models") / "detector")


def write(path, array, spacing=(1.0, 1.0, 1.0)):
    """`array` is (z, y, x); `spacing` is (x, y, z)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))
    return path


def noise(x, y, z, kind=np.uint8):
    return np.random.default_rng(x * y * z).integers(40, 200, (z, y, x)).astype(kind)


def detect(path, model, output, *more):
    return cli.main(["detect", str(path), "--model", str(model), "--output", str(output), "--device", "cpu", *map(str, more)])


def inside(study, image):
    """Whether every box lies in the volume."""
    for finding in study.findings:
        centre = physical_to_index(image, finding.box.center) + 0.5
        half = np.array(finding.box.size) / image.GetSpacing() / 2
        if (centre - half < -1e-3).any() or (centre + half > np.array(image.GetSize()) + 1e-3).any():
            return False
    return True


DONE = {
    "smaller-than-a-cell": (noise(3, 4, 5), (1, 1, 1)),
    "two-slices": (noise(60, 30, 2), (0.5, 0.5, 1.0)),
    "thin": (noise(90, 3, 40), (0.8, 0.6, 1.0)),
    "smaller-than-a-patch": (noise(40, 25, 30), (1.0, 1.0, 1.0)),
    "some-not-finite": (np.where(noise(40, 25, 30) % 7 == 0, [np.nan], noise(40, 25, 30)).astype(np.float32), (1, 1, 1)),
    "infinite": (np.where(noise(40, 25, 30) % 11 == 0, [-np.inf], noise(40, 25, 30)).astype(np.float64), (1, 1, 1)),
    "negative": (noise(40, 25, 30, np.int16) - 900, (1, 1, 1)),
    "one-bright-voxel": (np.pad(np.full((1, 1, 1), 255, np.uint8), 12), (1, 1, 1)),
}


@pytest.mark.parametrize("name", DONE)
def test_volumes_that_can_be_searched_are(name, model, tmp_path):
    path = write(tmp_path / f"{name}.nrrd", *DONE[name])
    assert detect(path, model, tmp_path / "out", "--threshold", 0) == 0
    study = read_study(tmp_path / "out" / name)
    assert inside(study, read_image(path).image)
    assert all(np.isfinite([f.score, f.malignancy, *f.box.center, *f.box.size]).all() for f in study.findings)
    if "finite" in name:
        assert any("finite" in note for note in study.provenance["notes"])


REFUSED = {
    "black": (np.zeros((20, 20, 20), np.uint8), (1, 1, 1), "0|one value|constant"),
    "not-a-number": (np.full((20, 20, 20), np.nan, np.float32), (1, 1, 1), "finite"),
    "single-slice": (noise(40, 30, 1), (1, 1, 1), "single slice; only volumes are searched like this; find and outline the lesions of 2D images with breastusai run"),
    "single-column": (noise(1, 30, 40), (1, 1, 1), "single slice"),
    "depth-and-slices-swapped": (noise(50, 57, 17), (3, 3, 3), "another order than lateral, depth, slice.*171 mm long; reorder"),
    "wrong-spacing": (noise(40, 20, 40), (20, 1, 1), "800 x 20 x 40 mm.*give the true spacing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_volumes_that_cannot_be_searched_are_told_and_leave_nothing(name, model, tmp_path, capsys):
    array, spacing, words = REFUSED[name]
    path = write(tmp_path / f"{name}.nrrd", array, spacing)
    assert detect(path, model, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line and "unexpected" not in line and re.search(words, line), line
    assert not (tmp_path / "out").exists()


def test_axes_that_may_be_swapped_are_told_beside_the_findings(model, tmp_path):
    path = write(tmp_path / "a.nrrd", noise(30, 60, 30))
    assert detect(path, model, tmp_path / "out", "--threshold", 0) == 0
    study = read_study(tmp_path / "out" / "a")
    (note,) = [n for n in study.provenance["notes"] if "lateral, depth, slice" in n]
    assert "the findings are wrong otherwise" in note and inside(study, read_image(path).image)


def test_a_volume_too_thin_to_show_a_lesion_says_so(model, tmp_path):
    """Nothing can be found in two slices; "No lesion found." was all that was said."""
    for slices, told in ((2, 1), (8, 0)):
        path = write(tmp_path / f"{slices}.nrrd", noise(60, 30, slices), (0.5, 0.5, 0.6))
        assert detect(path, model, tmp_path / "out") == 0
        notes = read_study(tmp_path / "out" / str(slices)).provenance["notes"]
        assert sum("only 1.2 mm thick along one axis" in note and "not found" in note for note in notes) == told


def test_a_run_does_the_others(model, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "good.nrrd", noise(40, 25, 30))
    write(tmp_path / "in" / "swapped.nrrd", *REFUSED["depth-and-slices-swapped"][:2])
    write(tmp_path / "in" / "black.nrrd", *REFUSED["black"][:2])
    options = ["--detect-model", str(model), "--detect-threshold", "0", "--detect-maximum", "3"]  # each is graded, which takes a second
    options += ["--no-outlines", "--no-scene", "--device", "cpu"]
    assert cli.main(["run", str(tmp_path / "in"), "--output", str(tmp_path / "out"), *options]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and {line.split("/in/")[1].split(".nrrd")[0] for line in said} == {"swapped", "black"}
    assert (tmp_path / "out" / "good" / "report.html").is_file() and not (tmp_path / "out" / "black").exists()


# --------------------------------------------------------------------------------------------------------- memory

# What PyTorch says where the memory of a CPU ends.
CPU_IS_FULL = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "400000000000 bytes. Error code 12 (Cannot allocate memory)"
)


class Cache:
    """One model, whose network refuses volumes of more voxels than `most`."""

    def __init__(self, folder, most):
        from BreastUSAILib.models import zoo

        model = zoo.load(folder, "detect", "cpu")
        real = model.network

        class Small:
            scale, multiple, anchors = real.scale, real.multiple, real.anchors

            def __call__(self, volume):
                if volume.numel() > most:
                    raise RuntimeError(CPU_IS_FULL)
                return real(volume)

        self.model = replace(model, network=Small())

    def get(self, name, task, device):
        from BreastUSAILib.models import zoo

        return self.model if task == "detect" else zoo.load(name, task, device)


def test_a_volume_too_large_for_the_memory_is_searched_in_windows(model, tmp_path):
    path = write(tmp_path / "a.nrrd", noise(150, 40, 150))
    options = DetectionOptions(str(model), device="cpu", threshold=0.0)
    study = run_detection(read_image(path), options, cache=Cache(model, 100 * 40 * 100))
    assert study.findings and inside(study, read_image(path).image)
    assert any("memory of the cpu device was not enough; the volume was searched in windows of 75 x 40 x 75" in n for n in study.provenance["notes"])
    with pytest.raises(ImageError, match=f"{path}: it needs more memory than there is; close other programs"):
        run_detection(read_image(path), options, cache=Cache(model, 1000))


def test_pytorchs_own_words_for_a_full_memory_are_known():
    torch = pytest.importorskip("torch")
    from BreastUSAILib.models.devices import is_out_of_memory

    with pytest.raises(RuntimeError) as full:
        torch.empty(10**15)
    assert is_out_of_memory(full.value) and is_out_of_memory(MemoryError()) and is_out_of_memory(RuntimeError("std::bad_alloc"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


@pytest.mark.parametrize(
    "words",
    [
        r"[enforce fail at C:\actions-runner\_work\pytorch\pytorch\pytorch\c10\core\impl\alloc_cpu.cpp:121] data. "
        "DefaultCPUAllocator: not enough memory: you tried to allocate 274877906944 bytes.",
        "bad allocation",  # what MSVC's std::bad_alloc says
        "could not create a memory object",  # oneDNN, on any system
    ],
)
def test_what_windows_and_onednn_say_of_a_full_memory_is_known(words):
    pytest.importorskip("torch")
    from BreastUSAILib.models.devices import is_out_of_memory

    assert is_out_of_memory(RuntimeError(words))


def test_windows_are_chosen_by_the_size_of_the_volume_before_memory_ends(tmp_path):
    folder = detector_folder(tmp_path / "windows", whole_voxels=1000, window=[32, 32, 32], shared=8)
    path = write(tmp_path / "a.nrrd", noise(60, 30, 60))
    told = []
    study = run_detection(read_image(path), DetectionOptions(str(folder), device="cpu", threshold=0.0), lambda f, m: told.append(m))
    assert "looking for lesions (9 of 9)" in told and inside(study, read_image(path).image)
    assert study.provenance["notes"] == []


# --------------------------------------------------------------------------------------------------------- labels


def test_labels_outside_their_volume_are_told_by_training_and_evaluation(model, tmp_path, capsys):
    from BreastUSAILib.evaluation.volume_data import read_volumes
    from BreastUSAILib.phantom.grids import PhantomGrid
    from BreastUSAILib.phantom.layouts import write_phantom, write_tables
    from BreastUSAILib.phantom.seeds import volume_seed
    from BreastUSAILib.phantom.spec import PhantomSpec

    spec = PhantomSpec(grid=PhantomGrid((48, 24, 32), (0.8, 0.9, 1.1), top=2.0, whole=False), lesions=1)
    phantom = generate(volume_seed("test", index=0), spec)
    write_phantom("native", tmp_path / "native", "phantom-test-0000000000", "test", spec, phantom)
    write_tables("native", tmp_path / "native")
    (record,) = (tmp_path / "native" / "records").glob("*.json")
    values = json.loads(record.read_text())

    def moved(value):
        """The record with its lesion 100 mm further along the first axis."""
        if isinstance(value, dict):
            return {k: [v[0] + 100, *v[1:]] if k.startswith("centre") else moved(v) for k, v in value.items()}
        return [moved(v) for v in value] if isinstance(value, list) else value

    assert moved(values) != values
    record.write_text(json.dumps(moved(values)))
    (case,) = read_volumes(tmp_path / "native", ("test",))
    with pytest.raises(DataError, match="outside the volume; correct its annotation"):
        case.read()
    arguments = ["evaluate", "detect", "--data", str(tmp_path / "native"), "--model", str(model), "--output", str(tmp_path / "out")]
    assert cli.main([*arguments, "--device", "cpu"]) == 1
    assert "a lesion's box lies outside the volume" in capsys.readouterr().err
    # The challenge's layout is checked before a voxel is read.
    write_phantom("tdsc-abus", tmp_path / "tdsc", "130", "test", spec, phantom)
    write_tables("tdsc-abus", tmp_path / "tdsc")
    boxes = tmp_path / "tdsc" / "Test" / "bbx_labels.csv"
    title, row = boxes.read_text().splitlines()
    cells = row.split(",")
    boxes.write_text(f"{title}\n{','.join([cells[0], '900', *cells[2:]])}\n")
    assert cli.main([*arguments[:3], str(tmp_path / "tdsc"), *arguments[4:], "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert "bbx_labels.csv, line 2: the box from" in said and "does not lie in the volume of (48, 24, 32) voxels" in said
