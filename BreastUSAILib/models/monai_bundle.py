"""Models as MONAI bundles (https://docs.monai.io/en/stable/mb_specification.html), which ``python -m monai.bundle`` verifies and runs.

A bundle is a folder: ``configs/metadata.json``, ``configs/inference.json``, ``models`` (a model folder, as ``--model DIR`` takes one),
``docs/README.md`` and ``LICENSE``. Where MONAI's own bundles hold a pickle, ``models/model.pt``, ours hold safetensors.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..atomic import atomic_folder
from ..errors import ModelError
from .bundle import COMMANDS, OneTensor, analyse, with_weights
from .bundle_metadata import assumed, metadata
from .cards import card
from .entry import ModelEntry
from .folder import CONFIG, WEIGHTS
from .zoo import network_of, read_state, read_verified

_ASKED = ("input_file", "output_dir", "device", "command", "options")
"""What a user may say of a run, as ``--input_file FILE`` and so on."""
_ONE_TENSOR = ("roi_cnn.RoiCnn", "unet.SegmentationUNet")
"""The networks whose answer is one tensor (N, channels, ...) by itself."""
_ROOT = __name__.partition(".")[0]
_SPEAKS = ("$", "@", "%", "_")
"""What a text begins with that MONAI's parser runs, looks up or reads from another file, and its own names (``_target_``)."""


def export_bundle(entry: ModelEntry, weights: Path, folder: Path) -> None:
    """Write a model as a MONAI bundle.

    Parameters
    ----------
    entry, weights : see `zoo.resolve`.
    folder : where it shall be; nothing, or an empty folder, may be there.

    Raises
    ------
    ModelError : see `zoo.load` and `bundle_metadata.metadata`; or a config with texts that MONAI would take for commands.
    OutputError : see `atomic.atomic_folder`.
    """
    data = read_verified(entry, weights)
    network = network_of(entry, read_state(entry, weights), weights)
    described = metadata(entry, network)
    _refuse_commands(entry.id, {"arguments": entry.arguments, **described})
    inside = replace(entry, file=WEIGHTS, size_bytes=len(data))
    documents = {
        "configs/metadata.json": _json(described),
        "configs/inference.json": _json(_inference(entry, network)),
        f"models/{CONFIG}": _json(inside.to_dict()),
        "docs/README.md": _readme(inside),
        "LICENSE": _licence(entry),
    }
    with atomic_folder(folder) as temporary:
        for path, text in documents.items():
            (temporary / path).parent.mkdir(exist_ok=True)
            (temporary / path).write_bytes(text.encode())
        (temporary / "models" / WEIGHTS).write_bytes(data)


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _refuse_commands(model: str, content: Mapping[str, Any]) -> None:
    """ModelError where a text of a model's config is one that MONAI's parser acts upon: a bundle of it would run what a stranger wrote there."""
    for text in _texts(content):
        if text.startswith(_SPEAKS):
            raise ModelError(
                f"The config of model {model!r} has {text[:60]!r}, which MONAI would take for a command; correct its {CONFIG}."
            )


def _texts(value: Any) -> Iterator[str]:
    """The texts in nested settings, the names among them."""
    if isinstance(value, Mapping):
        for name, held in value.items():
            yield str(name)
            yield from _texts(held)
    elif isinstance(value, (list, tuple)):
        for held in value:
            yield from _texts(held)
    elif isinstance(value, str):
        yield value


def _inference(entry: ModelEntry, network: nn.Module) -> dict[str, Any]:
    """The content of ``inference.json``: the network without weights and with them, and the run of the project's command."""
    own = {"_target_": f"{_ROOT}.networks.{entry.network}", **entry.arguments}
    wrapped = {"_target_": _name(OneTensor), "network": own, "assumed": assumed(network)}
    return {
        "bundle_root": ".",
        "model": "$@bundle_root + '/models'",
        "input_file": "",
        "output_dir": "results",
        "device": "auto",
        "command": next(iter(COMMANDS.get(entry.task, {})), ""),
        "options": [],
        "network_def": own if entry.network in _ONE_TENSOR else wrapped,
        "network": {"_target_": _name(with_weights), "network": "@network_def", "folder": "@model"},
        "run": [{"_target_": _name(analyse), "folder": "@model", **{name: f"@{name}" for name in _ASKED}}],
    }


def _name(part: Any) -> str:
    return f"{part.__module__}.{part.__qualname__}"


def _readme(entry: ModelEntry) -> str:
    """The model card, and how the bundle is used."""
    commands = COMMANDS.get(entry.task, {})
    lines = [
        "",
        "## As a MONAI bundle",
        "",
        "It needs BreastUSAI, whose networks and commands its configs name, and MONAI with its command line "
        "(`pip install 'monai[fire]'`). In this folder:",
        "",
        "```",
        "python -m monai.bundle verify_net_in_out network_def --meta_file configs/metadata.json --config_file configs/inference.json",
    ]
    if commands:
        lines += ["python -m monai.bundle run --config_file configs/inference.json --input_file FILE --output_dir DIR"]
    lines += ["```", ""]
    if commands:
        usual = next(iter(commands))
        others = " or ".join(f"`--command {name}`" for name in commands if name != usual)
        lines += [
            f"`run` does what `breastusai {usual}` does with this model, and writes the same files. `--device cpu` says where; "
            "`--options='--spacing 0.08'` are further options of the command; "
            f"{others} is another command; `--bundle_root FOLDER` is this folder, where you are in another one.",
            "",
        ]
    lines += [
        "`network` is the network with its weights, for code of your own (`monai.bundle.ConfigParser`); `configs/metadata.json` "
        "says what goes in and comes out. Weights are safetensors, checked against their SHA-256 before use; there is no "
        "`model.pt`, as nothing is unpickled. `models` is a model folder of BreastUSAI (`--model DIR`).",
        "",
        "MONAI runs what a bundle's configs say, as code: use bundles of people whom you trust.",
        "",
    ]
    return card(entry) + "\n".join(lines)


def _licence(entry: ModelEntry) -> str:
    """The licence of the weights; where it is Apache's, which is that of the code too, its text."""
    code = "BreastUSAI, which runs them: Apache License 2.0, http://www.apache.org/licenses/LICENSE-2.0"
    lines = [f"The weights of {entry.id} {entry.version}: {entry.licence}.", code]
    text = _apache() if entry.licence.startswith("Apache-2.0") else ""
    return "\n".join(lines) + "\n" + (f"\n{text}" if text else "")


def _apache() -> str:
    """The text of the project's licence, of the installed package or the checkout; "" where it is not found."""
    try:
        files = importlib.metadata.files("breastusai") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [Path(file.locate()) for file in files if file.name == "LICENSE"]
    for path in (Path(__file__).parents[2] / "LICENSE", *found):
        try:
            text = path.read_text(encoding="utf-8")
        except OSError:
            continue
        if "Apache License" in text:
            return text
    return ""
