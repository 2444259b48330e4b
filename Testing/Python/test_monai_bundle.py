"""MONAI bundles: MONAI itself verifies them, their weights are the model's, their runs leave what the project's commands leave."""

import filecmp
import json
import os
import shutil

import pytest
import SimpleITK as sitk
import torch

pytest.importorskip("monai", reason="MONAI is not installed (pip install breastusai[train])")
from grade_cases import grade_folder
from monai.bundle import ConfigParser, run, verify_net_in_out
from small_models import classifier_folder, detector_folder, outliner_folder

from BreastUSAILib import RESEARCH_USE
from BreastUSAILib.atomic import atomic_folder
from BreastUSAILib.cli import build_parser, main
from BreastUSAILib.errors import BreastUSAIError, ModelError, OutputError, UsageError
from BreastUSAILib.models import bundle, catalog, zoo
from BreastUSAILib.models.bundle_metadata import assumed, metadata
from BreastUSAILib.models.folder import CONFIG, WEIGHTS, save_model, sha256
from BreastUSAILib.models.inference import prepared
from BreastUSAILib.models.monai_bundle import export_bundle
from BreastUSAILib.networks.sn_net import SnNet
from BreastUSAILib.networks.unet import SegmentationUNet
from BreastUSAILib.networks.vnet import VNet
from BreastUSAILib.sample_data import sample_path

pytestmark = pytest.mark.filterwarnings(
    "ignore:parsing config_file"
)  # MONAI's word on configs of strangers; these are ours
ENTRIES = {entry.id: entry for entry in catalog.entries()}
FILES = {
    "LICENSE",
    "configs/inference.json",
    "configs/metadata.json",
    "docs/README.md",
    f"models/{CONFIG}",
    f"models/{WEIGHTS}",
}
# Of the schema that metadata.json names: what must be there, and what each is where it is there.
NEEDED = {
    "schema",
    "version",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "required_packages_version",
    "task",
    "description",
}
NEEDED |= {"authors", "copyright", "network_data_format"}
TYPES = {
    **dict.fromkeys(("changelog", "required_packages_version", "eval_metrics", "network_data_format"), dict),
    "references": list,
}
TENSOR = {"type": str, "format": str, "num_channels": int, "spatial_shape": list, "dtype": str, "value_range": list}
TENSOR |= {"is_patch_data": bool, "channel_def": dict}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Model -> the bundle of each that ships, as the command line writes it."""
    folder = tmp_path_factory.mktemp("bundles")
    for name in ENTRIES:
        assert main(["models", "export", "--format", "monai-bundle", name, str(folder / name)]) == 0
    return {name: folder / name for name in ENTRIES}


def parsed(folder):
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    parser.read_meta(str(folder / "configs" / "metadata.json"))
    parser["bundle_root"] = str(folder)
    return parser


def verify(folder, net_id="network", **more):
    configs = folder / "configs"
    verify_net_in_out(
        net_id=net_id, meta_file=str(configs / "metadata.json"), config_file=str(configs / "inference.json"), device="cpu", bundle_root=str(folder), **more
    )  # fmt: skip


def run_bundle(folder, image, output, **more):
    run(
        config_file=str(folder / "configs" / "inference.json"),
        bundle_root=str(folder),
        input_file=str(image),
        output_dir=str(output),
        device="cpu",
        **more,
    )


def check_metadata(folder):
    found = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    assert set(found) >= NEEDED and found["intended_use"] == RESEARCH_USE
    for name, value in found.items():
        assert isinstance(value, TYPES.get(name, str)), name
    assert all(isinstance(reference, str) for reference in found["references"])
    formats = found["network_data_format"]
    assert (
        set(formats) == {"inputs", "outputs"} and "image" in formats["inputs"] and set(formats["outputs"]) == {"pred"}
    )
    for tensor in (*formats["inputs"].values(), *formats["outputs"].values()):
        for name, kind in TENSOR.items():
            assert isinstance(tensor[name], kind), name
        assert all(isinstance(side, (int, str)) for side in tensor["spatial_shape"])
        assert list(tensor["channel_def"]) == [str(channel) for channel in range(tensor["num_channels"])]
    return found


def test_a_bundle_of_each_model_that_ships_is_whole_and_says_what_the_catalogue_says(bundles):
    for name, folder in bundles.items():
        entry = ENTRIES[name]
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == FILES
        found = check_metadata(folder)
        assert (found["name"], found["version"]) == (name, entry.version)
        assert found["eval_metrics"] == entry.measured and found["data_source"] == entry.trained_on
        assert entry.description in found["description"] and entry.trained_on in found["description"]
        assert sha256(folder / "models" / WEIGHTS) == entry.sha256
        assert zoo.resolve(folder / "models", entry.task)[0].arguments == entry.arguments
        licence, readme = ((folder / path).read_text(encoding="utf-8") for path in ("LICENSE", "docs/README.md"))
        assert entry.licence in licence and "TERMS AND CONDITIONS" in licence
        assert f"# {name} {entry.version}" in readme and "python -m monai.bundle run" in readme
    assert not list(folder.parent.glob(".tmp-*"))


@pytest.mark.parametrize("name", ENTRIES)
def test_monai_verifies_a_bundle_with_and_without_weights(bundles, name):
    verify(bundles[name], "network_def")
    verify(bundles[name], "network")


@pytest.mark.parametrize("name", ENTRIES)
def test_a_bundle_answers_to_the_bit_as_the_model_does(bundles, name, float32):
    entry, parser = ENTRIES[name], parsed(bundles[name])
    network = parser.get_parsed_content("network")
    volumes = entry.preprocessing["dimension"] == 3
    model = zoo.load(name, entry.task, "cpu", "torch").network
    inputs = parser["_meta_"]["network_data_format"]["inputs"]
    shape = [32 if isinstance(side, str) else side for side in inputs["image"]["spatial_shape"]]
    image = torch.randn(1, inputs["image"]["num_channels"], *shape)
    more = {}
    for key, tensor in inputs.items():
        if key != "image":
            values = torch.rand(1, tensor["num_channels"], *tensor["spatial_shape"])
            more[key] = values[:, 0] if key == "spacing" else values
    with torch.inference_mode():
        # As zoo.load makes a network ready: what it then answers is the same numbers, not nearly the same.
        found = prepared(network, "cpu", volumes)(image, **more)
        expected = bundle.as_one_tensor(model(image, **more))
    assert torch.equal(found, expected) and found.isfinite().all()
    assert found.shape[1] == parser["_meta_"]["network_data_format"]["outputs"]["pred"]["num_channels"]


def test_channels_are_what_the_network_said():
    from BreastUSAILib.networks.detection import Predictions
    from BreastUSAILib.networks.vnet import Joint

    logits, parameters = torch.randn(2, 12, 3), torch.randn(2, 12, 6)
    one = bundle.as_one_tensor(Predictions(logits, parameters, torch.randn(2, 4, 1, 1, 1)))
    assert torch.equal(one[:, :3], logits.transpose(1, 2)) and torch.equal(one[:, 3:], parameters.transpose(1, 2))
    outline, malignancy = torch.randn(2, 4, 5, 6), torch.randn(2, 2)
    one = bundle.as_one_tensor(Joint(outline, malignancy))
    assert torch.equal(one[:, 0], outline) and torch.equal(one[:, 1:, 3, 4, 5], malignancy)
    assert bundle.as_one_tensor(Joint(None, malignancy)) is malignancy
    assert bundle.as_one_tensor(torch.zeros(2)).shape == (2, 1)
    answers = {"malignancy": torch.zeros(2, 2), "birads": torch.ones(2, 6)}
    assert bundle.as_one_tensor(answers).sum(1).tolist() == [6.0, 6.0]


# ---------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def volume(tmp_path_factory):
    """A small volume with a lesion, of the sample phantom."""
    image = sitk.ReadImage(str(sample_path("abus-phantom-earlier")))
    truth = sitk.ReadImage(str(sample_path("abus-phantom-earlier")).replace(".nrrd", "-lesions.nrrd"), sitk.sitkUInt8)
    shapes = sitk.LabelShapeStatisticsImageFilter()
    shapes.Execute(truth)
    box = shapes.GetBoundingBox(shapes.GetLabels()[0])
    first = [max(0, box[axis] + box[axis + 3] // 2 - 30) for axis in range(3)]
    piece = image[tuple(slice(start, start + 60) for start in first)]
    path = tmp_path_factory.mktemp("volume") / "piece.nrrd"
    sitk.WriteImage(piece, str(path))
    return path


def result(output):
    """study.json without what differs from run to run and where its model lies; and the folder."""
    (path,) = output.glob("*/study.json")
    study = json.loads(path.read_text(encoding="utf-8"))
    record = study["provenance"]
    for name in ("created", "seconds", "run", "options"):
        record.pop(name, None)
    return study, path.parent


def check_same(found, expected):
    (one, folder), (other, wanted) = result(found), result(expected)
    assert one == other
    names = {path.name for path in wanted.iterdir()}
    assert {path.name for path in folder.iterdir()} == names
    images = [name for name in names if name.endswith((".nrrd", ".csv", ".mrk.json"))]
    assert images and not filecmp.cmpfiles(folder, wanted, images, shallow=False)[1]
    return one


def test_the_2d_segmentation_runs_in_the_bundles_folder_as_the_command_does(bundles, tmp_path, monkeypatch):
    image = sample_path("breast-2d")
    words = ["--jobs", "0", "--no-scene", "--no-grades", "--spacing", "0.1"]
    monkeypatch.chdir(bundles["roi-cnn-compact"])
    run(
        config_file="configs/inference.json",
        input_file=str(image),
        output_dir=str(tmp_path / "bundle"),
        device="cpu",
        options=words,
    )
    assert main(["run", str(image), "--output", str(tmp_path / "command"), "--device", "cpu", *words]) == 0
    study = check_same(tmp_path / "bundle", tmp_path / "command")
    assert study["findings"] and list((tmp_path / "bundle").rglob("lesions.seg.nrrd"))


CASES = {
    "detection-compact": (["detect"], {}),
    "heatmap-compact": (["heatmap"], {}),
    "lesion-classifier-compact": (["detect"], {"options": "--threshold 0.3"}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_networks_of_volumes_run_as_their_commands_do(bundles, volume, tmp_path, name):
    words, more = CASES[name]
    run_bundle(bundles[name], volume, tmp_path / "bundle", **more)
    words = [
        *words,
        str(volume),
        "--output",
        str(tmp_path / "command"),
        "--device",
        "cpu",
        *more.get("options", "").split(),
    ]
    assert main(words) == 0
    study = check_same(tmp_path / "bundle", tmp_path / "command")
    assert study["findings"]
    # The second opinion of the detection that ships goes with its bundle, too.
    tasks = {model["task"] for model in study["provenance"]["models"]}
    assert tasks == ({"heatmap"} if name == "heatmap-compact" else {"detect", "lesion-classifier"})


def test_the_3d_segmentation_outlines_where_it_is_told(bundles, volume, tmp_path):
    centre = sitk.ReadImage(str(volume))
    point = ",".join(
        f"{x:.1f}" for x in centre.TransformContinuousIndexToPhysicalPoint([n / 2 for n in centre.GetSize()])
    )
    words = [f"--point={point}", "--no-uncertainty"]
    run_bundle(bundles["segmentation-3d-compact"], volume, tmp_path / "bundle", command="segment", options=words)
    assert main(["segment", str(volume), "--output", str(tmp_path / "command"), "--device", "cpu", *words]) == 0
    assert check_same(tmp_path / "bundle", tmp_path / "command")["findings"]


def test_a_grader_runs_as_the_command_does(bundles, tmp_path):
    image, name, words = sample_path("breast-2d"), "grade-gcnn-compact", ["--one-crop", "--spacing", "0.1"]
    run_bundle(bundles[name], image, tmp_path / "bundle", options=" ".join(words))
    told = ["--output", str(tmp_path / "command"), "--device", "cpu", "--gcnn", name]
    assert main(["grade", str(image), *told, *words]) == 0
    assert check_same(tmp_path / "bundle", tmp_path / "command")["findings"]


@pytest.mark.parametrize("task", bundle.COMMANDS)
def test_every_command_of_a_task_takes_its_model(task):
    for command, option in bundle.COMMANDS[task].items():
        words = [command, "--output", "results", option, "the-folder", "--", "file"]
        given = vars(build_parser(words).parse_args(words))
        assert [name for name, value in given.items() if value == "the-folder"] == [option.strip("-").replace("-", "_")]


# --------------------------------------------------------------------------------------------------- models of one's own


def test_a_model_of_ones_own_becomes_a_bundle_and_has_no_second_opinion(volume, tmp_path):
    folder = tmp_path / "own bundle's"
    assert (
        main(
            [
                "models",
                "export",
                str(detector_folder(tmp_path / "own", threshold=0.0)),
                str(folder),
                "--format",
                "monai-bundle",
            ]
        )
        == 0
    )
    found = check_metadata(folder)
    assert "The BreastUSAI contributors" not in found["authors"]
    assert (
        "unspecified" in (folder / "LICENSE").read_text()
        and "TERMS AND CONDITIONS" not in (folder / "LICENSE").read_text()
    )
    verify(folder, n=2)
    run_bundle(folder, volume, tmp_path / "found", options=["--maximum", 2])
    study, _ = result(tmp_path / "found")
    assert {model["id"] for model in study["provenance"]["models"]} == {"small-detector"} and len(
        study["findings"]
    ) == 2


@pytest.mark.parametrize("make", [classifier_folder, outliner_folder])
def test_other_models_of_ones_own_pass_too(tmp_path, make):
    export_bundle(*zoo.resolve(make(tmp_path / "own"), None), tmp_path / "bundle")
    check_metadata(tmp_path / "bundle")
    verify(tmp_path / "bundle")


def test_a_joint_network_without_an_outline_is_described_as_what_it_is(tmp_path):
    own = outliner_folder(tmp_path / "own")
    config = json.loads((own / CONFIG).read_text())
    config["arguments"] |= {"segmentation": False, "stages": [4]}
    export_bundle(*zoo.resolve(save_model(own, VNet(**config["arguments"]), config), None), tmp_path / "bundle")
    pred = check_metadata(tmp_path / "bundle")["network_data_format"]["outputs"]["pred"]
    assert pred["spatial_shape"] == [] and "malignancy" in pred["channel_def"]["0"]
    verify(tmp_path / "bundle")


def test_a_network_for_comparison_is_verified_and_no_command_runs_it(tmp_path):
    arguments = {"channels": [4, 4], "strides": [2]}
    config = {
        "id": "u", "version": "1", "task": "detect-baseline", "network": "unet.SegmentationUNet", "arguments": arguments,
        "preprocessing": {"dimension": 3, "spacing": [1.0, 1.0, 1.0]},
    }  # fmt: skip
    export_bundle(
        *zoo.resolve(save_model(tmp_path / "own", SegmentationUNet(**arguments), config), None), tmp_path / "bundle"
    )
    assert "malignant lesion" in check_metadata(tmp_path / "bundle")["pred_classes"]
    assert "monai.bundle run" not in (tmp_path / "bundle" / "docs" / "README.md").read_text()
    verify(tmp_path / "bundle")
    with pytest.raises(ModelError, match="No command runs a model of the task 'detect-baseline'"):
        bundle.analyse(tmp_path / "bundle" / "models", "volume.nrrd", tmp_path)


# ------------------------------------------------------------------------------------------------------------ refusals


def refused(capsys, *words):
    code = main(["models", "export", *map(str, words), "--format", "monai-bundle"])
    said = capsys.readouterr().err
    assert code in (1, 2) and said.startswith("error: ") and said.count("\n") == 1
    return said


def test_what_cannot_be_exported_is_refused_in_one_sentence(tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert "full is not empty; choose a new folder" in refused(capsys, "heatmap-compact", tmp_path / "full")
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine.txt"]
    file = tmp_path / "full" / "mine.txt"
    assert "is a file, not a folder" in refused(capsys, "heatmap-compact", file) and file.read_text() == "mine"
    assert "is a file, not a folder" in refused(capsys, "heatmap-compact", file / "bundle")
    assert "'none' is unknown; there are roi-cnn-compact" in refused(capsys, "none", tmp_path / "new")
    assert "config.json is missing" in refused(capsys, tmp_path / "full", tmp_path / "new")
    assert "--shape is for ONNX files" in refused(capsys, "heatmap-compact", tmp_path / "new", "--shape", 32, 32, 32)
    assert not (tmp_path / "new").exists()


def test_an_empty_folder_is_filled_and_a_failure_leaves_nothing(tmp_path, monkeypatch):
    entry, weights = zoo.resolve(classifier_folder(tmp_path / "own"), None)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    export_bundle(entry, weights, os.path.join("empty", "..", "empty"))
    assert (tmp_path / "empty" / "LICENSE").is_file()
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "new") as temporary:
        assert temporary.parent == tmp_path
        (temporary / "half").write_text("half")
        raise KeyboardInterrupt
    assert {path.name for path in tmp_path.iterdir()} == {"own", "empty"}


def test_a_folder_that_may_not_be_written_is_refused(tmp_path, capsys, monkeypatch):
    def forbidden(path, *more, **named):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "mkdir", forbidden)
    assert "permission is denied" in refused(capsys, "heatmap-compact", tmp_path / "new")


def test_a_disk_that_fills_up_is_one_sentence_about_the_folder(tmp_path, monkeypatch):
    entry, weights = zoo.resolve(classifier_folder(tmp_path / "own"), None)

    def full(path, data):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    with pytest.raises(OutputError, match="new cannot be written: the disk is full"):
        export_bundle(entry, weights, tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_an_error_about_another_file_passes_as_it_is(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_folder(tmp_path / "new"):
        (tmp_path.parent / "nowhere" / "x").read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"description": "$__import__('os').getcwd()"},
        {"trained_on": "%/etc/hostname"},
        {"measured": {"test": {"@run": 1}}},
        {"measured": {"test": [{"_target_": "os.getcwd"}]}},
        {"references": ["see above", "@run"]},
    ],
)
def test_texts_that_monai_would_run_are_refused(tmp_path, change, capsys):
    own = grade_folder(tmp_path / "own", "snnet")
    (own / CONFIG).write_text(json.dumps(json.loads((own / CONFIG).read_text()) | change))
    assert "which MONAI would take for a command; correct its config.json" in refused(capsys, own, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_arguments_that_monai_would_run_are_refused_though_the_network_takes_them(tmp_path, capsys):
    own = grade_folder(tmp_path / "own", "snnet")
    config = json.loads((own / CONFIG).read_text())
    config["arguments"]["outputs"] |= {"_target_": 2}
    save_model(own, SnNet(**config["arguments"]), config)
    assert "has '_target_', which MONAI would take for a command" in refused(capsys, own, tmp_path / "new")


def test_a_config_that_does_not_fit_its_network_is_refused(tmp_path):
    own = outliner_folder(tmp_path / "own")
    config = json.loads((own / CONFIG).read_text())
    small = {"preprocessing": {**config["preprocessing"], "shape": [9, 9, 9]}}
    for change, said in (({"task": "other"}, "of which no bundle can be made"), (small, "does not take the shape")):
        (own / CONFIG).write_text(json.dumps(config | change))
        with pytest.raises(ModelError, match=said):
            export_bundle(*zoo.resolve(own, None), tmp_path / "new")


def test_damaged_weights_are_refused_before_a_byte_is_used(tmp_path):
    own = classifier_folder(tmp_path / "own")
    export_bundle(*zoo.resolve(own, None), tmp_path / "bundle")
    network = parsed(tmp_path / "bundle").get_parsed_content("network_def")
    weights = tmp_path / "bundle" / "models" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(ModelError, match="damaged or were exchanged"):
        bundle.with_weights(network, weights.parent)
    weights.unlink()
    (weights.parent / CONFIG).unlink()
    with pytest.raises(ModelError, match="--bundle_root FOLDER"):
        bundle.with_weights(network, weights.parent)
    shutil.rmtree(own)
    other = zoo.resolve(detector_folder(own), None)
    export_bundle(*other, tmp_path / "other")
    with pytest.raises(ModelError, match="do not fit the network of the bundle's config"):
        bundle.with_weights(network, tmp_path / "other" / "models")


def test_a_run_that_cannot_be_says_why(bundles, tmp_path):
    model = bundles["roi-cnn-compact"] / "models"
    with pytest.raises(UsageError, match="--input_file FILE"):
        bundle.analyse(model, "", tmp_path)
    with pytest.raises(UsageError, match="choose run or grade"):
        bundle.analyse(model, "image.png", tmp_path, command="detect")
    (tmp_path / "no.png").write_text("no image")
    with pytest.raises(BreastUSAIError, match="was not analysed"):
        bundle.analyse(model, tmp_path / "no.png", tmp_path / "out", options="--jobs 0 --no-scene --quiet")
    with pytest.raises(RuntimeError) as error:  # MONAI's own, about ours
        run_bundle(bundles["detection-compact"], tmp_path / "none.nrrd", tmp_path / "out")
    assert isinstance(error.value.__cause__, BreastUSAIError)


def test_a_metadata_example_has_what_a_network_needs():
    entry = ENTRIES["lesion-classifier-compact"]
    network = zoo.read_network(entry, catalog.WEIGHTS / entry.file)
    assert assumed(network) == {"sizes": [0.0, 0.0, 0.0]}
    assert metadata(entry, network)["network_data_format"]["inputs"]["sizes"]["num_channels"] == 3
