"""What the config of a MONAI bundle names: its network with one tensor as answer, its weights, and its run on a file.

`monai_bundle` writes such bundles. A run is the project's own command with the bundle's model, as what comes before and after a network is
written once, there.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import BreastUSAIError, Cancelled, ModelError, UsageError
from ..networks.detection import Predictions
from ..networks.vnet import Joint
from . import catalog, zoo
from .entry import ModelEntry
from .folder import CONFIG

COMMANDS: dict[str, dict[str, str]] = {
    "segment": {"run": "--model", "grade": "--model"},
    "detect": {"detect": "--model", "run": "--detect-model"},
    "lesion-classifier": {"detect": "--classifier", "run": "--classifier"},
    "segment-3d": {"run": "--segment-3d-model", "segment": "--model"},
    "heatmap": {"heatmap": "--model", "run": "--heatmap-model"},
    "grade-gcnn": {"grade": "--gcnn", "run": "--grade-gcnn"},
    "grade-mtnet": {"grade": "--mtnet", "run": "--grade-mtnet"},
    "grade-snnet": {"grade": "--snnet", "run": "--grade-snnet"},
}
"""Task -> the commands that work with its model on a file alone (or with options more: `segment` is told where the lesions are), the usual one
first, and each one's option for the model."""
_CANCELLED = 130  # the exit code of a command


class OneTensor(nn.Module):
    """A network that answers with one tensor (N, channels, ...), as tools for MONAI's bundles expect; see `as_one_tensor`.

    Parameters
    ----------
    network : one of `zoo.NETWORKS`.
    assumed : further arguments of the network by name, for callers that give an image alone: the values for one image, a number or a list.

    Input: what the network takes first, and its other arguments by name.
    """

    def __init__(self, network: nn.Module, assumed: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.network, self.assumed = network, dict(assumed or {})

    def forward(self, image: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        for name in self.assumed.keys() - more.keys():
            one = image.new_tensor(self.assumed[name])
            more[name] = one.expand(len(image), *one.shape)
        return as_one_tensor(self.network(image, **more))


def as_one_tensor(answer: Any) -> torch.Tensor:
    """What a network says of N images as one tensor (N, channels, ...), nothing left out that a task uses after a forward pass.

    Answers by name: their classes one after the other. Of a joint network: the outline, then each opinion on malignancy, the same number
    at each voxel. Of a detection network: the scores and the box parameters, and the anchors as the one spatial axis; its features serve
    training alone.
    """
    if isinstance(answer, Mapping):
        return torch.cat(list(answer.values()), 1)
    if isinstance(answer, Predictions):
        return torch.cat([answer.logits, answer.parameters], 2).transpose(1, 2)
    if isinstance(answer, Joint):
        if answer.outline is None:
            return answer.malignancy
        outline = answer.outline[:, None]
        opinions = answer.malignancy[..., None, None, None].expand(-1, -1, *outline.shape[2:])
        return torch.cat([outline, opinions.to(outline.dtype)], 1)
    return answer if answer.ndim > 1 else answer[:, None]


def with_weights(network: nn.Module, folder: str | Path) -> nn.Module:
    """A bundle's network with its weights (safetensors, after their checksum), in evaluation mode; batch normalisation is left as it was
    trained, for those who train on.

    Parameters
    ----------
    network : as the bundle's config defines it; is changed in place.
    folder : the bundle's folder ``models``.

    Raises
    ------
    ModelError : no such folder, a file that is damaged, or weights that are not this network's.
    """
    entry, weights = _model(folder)
    state = zoo.read_state(entry, weights)
    try:
        (network.network if isinstance(network, OneTensor) else network).load_state_dict(state)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ModelError(
            f"The weights {weights} do not fit the network of the bundle's config ({reason}); export it again."
        ) from error
    return network.eval()


def analyse(
    folder: str | Path,
    input_file: str | Path,
    output_dir: str | Path,
    device: str = "auto",
    command: str = "",
    options: str | Sequence[Any] = (),
) -> None:
    """Run the project's command for a bundle's model on one file: ``breastusai COMMAND INPUT_FILE --output OUTPUT_DIR --model FOLDER``.

    Parameters
    ----------
    folder : the bundle's folder ``models``.
    input_file : an image or a volume, of any format that `image.read_image` knows.
    output_dir : folder for the results, in a folder of their own in it.
    device : "auto", "cpu", "cuda" or "mps".
    command : one of `COMMANDS` of the model's task; "": the first.
    options : further words of the command line, such as ``["--threshold", "0.3"]``, as a list or as one text.

    Raises
    ------
    UsageError : no file is named, or no such command.
    ModelError : no such folder; or no command runs a model of its task.
    BreastUSAIError : what the command raises; or an input failed, of which it has said why.
    Cancelled : it was.
    """
    from ..cli import build_parser

    entry, _ = _model(folder)
    if not input_file:
        raise UsageError("No image is named; give --input_file FILE.")
    known = COMMANDS.get(entry.task)
    if known is None:
        raise ModelError(
            f"No command runs a model of the task {entry.task!r} (model {entry.id!r}) on a file; load the bundle's `network`, or measure it with breastusai evaluate."
        )
    command = command or next(iter(known))
    if command not in known:
        raise UsageError(
            f"Command {command!r} does not go with model {entry.id!r}, whose task is {entry.task!r}; choose {' or '.join(known)}."
        )
    more = shlex.split(options) if isinstance(options, str) else [str(word) for word in options]
    # Absolute, as `run` keeps the path in its record, by which it is repeated from other folders.
    model = [known[command], os.path.abspath(folder), *_second_opinion(entry)]
    where = ["--output", str(output_dir), "--device", str(device)]
    # Options of the caller come after ours, and win.
    words = [command, *where, *model, *more, "--", str(input_file)]
    args = build_parser(words).parse_args(words)
    code = args.main(args)
    if code == _CANCELLED:
        raise Cancelled("cancelled.")
    if code:
        raise BreastUSAIError(f"{input_file} was not analysed; breastusai {command} has said why.")


def _second_opinion(entry: ModelEntry) -> list[str]:
    """The option that names the second opinion on malignancy, which goes with a detection model that ships: commands know one by its id, and
    the bundle's copy by its checksum. Empty otherwise."""
    ours = any(e.id == entry.id and e.sha256 == entry.sha256 for e in catalog.entries())
    if entry.task != "detect" or not ours or not catalog.second_opinion(entry.id):
        return []
    return ["--classifier", catalog.default_for("lesion-classifier").id]


def _model(folder: str | Path) -> tuple[ModelEntry, Path]:
    """The entry and the weights in a bundle's folder ``models``. ModelError where there are none."""
    if not os.path.isfile(Path(folder) / CONFIG):
        raise ModelError(
            f"{folder} is not the folder of a bundle's model: {CONFIG} is missing; run it in the bundle's folder, or give --bundle_root FOLDER."
        )
    return zoo.resolve(folder, None)
