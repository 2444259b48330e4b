"""The samples that are built in: whole, small, what their descriptions say, and offered by Slicer's Sample Data without a network."""

import hashlib
import re
import sys
import types
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from BreastUSAILib import cli, sample_data
from BreastUSAILib.errors import DataError, UsageError
from BreastUSAILib.image import read_image
from BreastUSAILib.inputs import discover
from BreastUSAILib.sample_data import slicer_registration

ROOT = Path(__file__).resolve().parents[2]
IDS = ["breast-2d", "abus-phantom-earlier", "abus-phantom-later"]


@pytest.mark.parametrize("name", IDS)
def test_each_sample_is_whole_and_fits_its_label_map(name):
    image = read_image(sample_data.sample_path(name))
    truth = sitk.ReadImage(str(sample_data.truth_path(name)))
    assert image.spacing_known and truth.GetSize() == image.image.GetSize()
    assert truth.GetSpacing() == pytest.approx(image.image.GetSpacing())
    assert image.image.GetDimension() == (2 if name == "breast-2d" else 3)
    # The description says how large each lesion is.
    labels = sitk.GetArrayViewFromImage(truth)
    voxel = np.prod(truth.GetSpacing()) / 1000
    sizes = [float(s) for s in re.findall(r"([\d.]+) ml", sample_data.sample(name).description)]
    assert [round(float((labels == i).sum() * voxel), 2) for i in range(1, len(sizes) + 1)] == sizes
    assert labels.max() == (len(sizes) or 1)
    from PIL import Image

    with Image.open(sample_data.sample(name).thumbnail_path) as thumbnail:
        assert max(thumbnail.size) <= 256


def test_all_of_them_are_small_and_no_file_is_left_over():
    files = [f for f in sample_data.FILES.iterdir() if not f.name.startswith(".")]
    assert sum(f.stat().st_size for f in files) < 6e6
    named = {n for s in sample_data.samples() for n in (s.file, s.thumbnail, s.truth) if n}
    assert {f.name for f in files} == named
    assert [s.id for s in sample_data.samples()] == IDS
    real = sample_data.sample("breast-2d")
    assert real.licence == "CC BY 4.0" and "doi:10.1038" in real.cite
    assert all("no patient" in s.description for s in sample_data.samples()[1:])


def test_the_real_image_is_one_that_no_model_was_trained_on():
    assert sample_data.sample_path("breast-2d").read_bytes() == (ROOT / "Testing/Data/images/case067.nrrd").read_bytes()


def test_damaged_missing_and_unknown_samples_are_told(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="abus-phantom-later"):
        sample_data.sample_path("nothing")
    monkeypatch.setattr(sample_data, "FILES", tmp_path)
    with pytest.raises(DataError, match="install BreastUSAI again"):
        sample_data.sample_path("breast-2d")
    (tmp_path / "breast-2d.nrrd").write_bytes(b"NRRD0004")
    with pytest.raises(DataError, match="damaged"):
        sample_data.sample_path("breast-2d")


def test_the_command_lists_and_copies(tmp_path, capsys):
    assert cli.main(["samples"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == IDS
    assert "Licence: CC BY 4.0. Cite: Pawlowska" in lines[0]
    assert cli.main(["samples", "breast-2d", "--truth", "-o", str(tmp_path / "new")]) == 0
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["breast-2d-lesions.seg.nrrd", "breast-2d.nrrd"]
    labels = sitk.ReadImage(str(tmp_path / "new" / "breast-2d-lesions.seg.nrrd"))
    assert labels.GetSize() == sitk.ReadImage(str(sample_data.truth_path("breast-2d"))).GetSize()
    assert [s.path.name for found in discover([str(tmp_path / "new")], tmp_path / "out") for s in found.sources] == ["breast-2d.nrrd"]
    assert cli.main(["samples", "breast-3d", "-o", str(tmp_path)]) == 2
    assert "breast-3d" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ Slicer


@pytest.fixture
def registry(monkeypatch):
    """A STAND-IN for Slicer's module SampleData: what is registered, each source once, as there."""
    sources = {}

    def register(category="Custom", sampleName=None, uris=None, fileNames=None, nodeNames=None, customDownloader=None,
                 thumbnailFileName=None, loadFileType="VolumeFile", loadFiles=None, loadFileProperties={}, checksums=None):  # fmt: skip  # noqa: B006
        source = {
            "name": sampleName,
            "uri": uris,
            "file": fileNames,
            "node": nodeNames,
            "thumbnail": thumbnailFileName,
            "sum": checksums,
            "type": loadFileType,
        }
        if source not in sources.setdefault(category, []):
            sources[category].append(source)

    module = types.ModuleType("SampleData")
    module.SampleDataLogic = type("SampleDataLogic", (), {"registerCustomSampleDataSource": staticmethod(register)})
    monkeypatch.setitem(sys.modules, "SampleData", module)
    return sources


def test_slicers_sample_data_gets_them_from_the_extension_itself(registry, tmp_path):
    slicer_registration.register()
    slicer_registration.register()  # as after a reload
    (category,) = registry.values()
    assert len(category) == 3
    for source in category:
        assert (
            source["uri"].startswith("file:") and source["type"] == "VolumeFile" and Path(source["thumbnail"]).is_file()
        )
        # As Sample Data does: fetched into its cache, and compared.
        copy, _ = urllib.request.urlretrieve(source["uri"], tmp_path / source["file"])
        assert source["sum"] == "SHA256:" + hashlib.sha256(Path(copy).read_bytes()).hexdigest()
    assert len({s["file"] for s in category}) == 3 and all(s["file"].startswith("BreastUSAI-") for s in category)


def test_without_the_module_sample_data_nothing_happens(monkeypatch):
    monkeypatch.setitem(sys.modules, "SampleData", None)
    slicer_registration.register()


def test_the_segment_module_registers_them_when_slicer_has_started(registry):
    """On the stand-in for Slicer's GUI."""
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    pytest.importorskip("PySide6", reason="PySide6 is not installed")
    from slicer_standin import slicer_application

    file = ROOT / "BreastUSAI" / "BreastUSAISegment" / "BreastUSAISegment.py"
    with slicer_application(file) as slicer:
        import BreastUSAISegment

        BreastUSAISegment.BreastUSAISegment(types.SimpleNamespace(path=str(file)))
        assert registry == {}
        slicer.app.startupCompleted.emit()
        assert len(registry["BreastUSAI"]) == 3


def test_the_volumes_can_be_made_again():
    """By the script that is kept with them: so their truth is exact, and their seed belongs to no split."""
    import importlib.util

    from BreastUSAILib.phantom.seeds import split_of
    from BreastUSAILib.phantom.volume import generate

    spec = importlib.util.spec_from_file_location("make_samples", ROOT / "Testing" / "make_samples.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert split_of(script.SEED) is None
    phantom = generate(script.SEED, script.SPECS["earlier"])
    for made, kept in (
        (phantom.image, sample_data.sample_path("abus-phantom-earlier")),
        (phantom.labels, sample_data.truth_path("abus-phantom-earlier")),
    ):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(made), sitk.GetArrayFromImage(sitk.ReadImage(str(kept))))
