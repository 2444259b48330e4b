"""Loading models: checksum first, then the network. Nothing is unpickled, nothing is fetched."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from . import catalog
from .devices import Device, choose_device
from .engine_names import ENGINE_VARIABLE
from .entry import ModelEntry
from .folder import CONFIG, published_sha256

if TYPE_CHECKING:
    from torch import nn

NETWORKS = {
    "roi_cnn.RoiCnn",
    "detection.DetectionNetwork",
    "lesion_classifier.LesionClassifier",
    "vnet.VNet",
    "unet.SegmentationUNet",
    "resnet_3d.ResNet3d",
    "g_cnn.GCnn",
    "mt_net.MtNet",
    "sn_net.SnNet",
}
"""What a catalogue or a user's config.json may name; anything else is refused rather than imported."""


@dataclass(frozen=True)
class LoadedModel:
    """A network ready to use (evaluation mode, on its device), what is known of it, and the engine that runs it.

    Where the device is fast at bfloat16 the convolutions' weights are in it: call the network under `devices.autocast(device.name)`.
    `file` has its weights; None: those of the catalogue.
    """

    entry: ModelEntry
    network: nn.Module
    device: Device
    engine: str = "torch"
    file: Path | None = None

    @cached_property
    def published_sha256(self) -> str:
        """What its weights are known by, in a folder and in the catalogue alike; see `folder.published_sha256`. ModelError: see `read_verified`."""
        if self.file is None or self.file.parent == catalog.WEIGHTS:
            return self.entry.sha256
        return published_sha256(read_state(self.entry, self.file))

    def provenance(self) -> dict[str, str]:
        """The record that a study keeps of the model."""
        e = self.entry
        return {"id": e.id, "version": e.version, "sha256": e.sha256, "task": e.task, "trained_on": e.trained_on, "engine": self.engine}


def resolve(name: str | Path, task: str | None) -> tuple[ModelEntry, Path]:
    """The entry and the weight file of a model.

    Parameters
    ----------
    name : an id of the catalogue, a folder with config.json and model.safetensors, or "" for the task's default. A folder that is called
        as a model of the catalogue is that model where it holds no config.json, and the folder where it does.
    task : what the model is to do; None: whatever it does (there is no default then).

    Raises
    ------
    ModelError : unknown id, folder without config.json, or a model for another task.
    """
    folder = own_folder(str(name))
    if not name and task is not None:
        entry, weights = catalog.default_for(task), None
    elif folder is not None:
        config = folder / CONFIG
        if not os.path.isfile(config):
            raise ModelError(f"{folder} is not a model folder: {CONFIG} is missing; give the folder that training wrote.")
        try:
            entry = ModelEntry.from_dict(json.loads(config.read_text(encoding="utf-8")), str(config))
        except OSError as error:
            raise ModelError(f"{config} cannot be read ({error.strerror}); check its permissions.") from error
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{config} is not JSON ({error}); train again or restore the file.") from error
        # The weights lie beside the config; a path that leads elsewhere is not followed.
        weights = folder / Path(entry.file).name
    else:
        entry, weights = catalog.entry(str(name)), None
    if task is not None and entry.task != task:
        raise ModelError(f"Model {entry.id!r} is for the task {entry.task!r}, not {task!r}; `breastusai models list` tells which fit.")
    return entry, weights or catalog.WEIGHTS / entry.file


def own_folder(name: str, inside: str | os.PathLike = "") -> Path | None:
    """The folder that a model's name means; None where it means a model of the catalogue, that results or a download of that name happen to lie beside,
    or nothing.

    inside : what a relative name is relative to; "": the folder that one is in.
    """
    path = os.path.join(inside, name)
    if not name or not os.path.isdir(path):  # Path.is_dir raises where it may not look, or where the name is too long
        return None
    return Path(path) if os.path.isfile(os.path.join(path, CONFIG)) or all(name != entry.id for entry in catalog.entries()) else None


def read_verified(entry: ModelEntry, weights: Path) -> bytes:
    """The bytes of a weight file, after their SHA-256 was found right. ModelError otherwise."""
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise ModelError(f"The weights {weights} of model {entry.id!r} cannot be read ({error.strerror}); install or train it again.") from error
    found = hashlib.sha256(data).hexdigest()
    if found != entry.sha256:
        raise ModelError(
            f"The weights {weights} of model {entry.id!r} are damaged or were exchanged: SHA-256 is {found[:12]}..., "
            f"{entry.sha256[:12]}... was expected; install or train it again."
        )
    return data


def verify(entry: ModelEntry) -> None:
    """Check a catalogue model's weight file. ModelError when it is missing or its checksum is wrong."""
    read_verified(entry, catalog.WEIGHTS / entry.file)


def load(name: str | Path = "", task: str = "segment", device: str = "auto", engine: str = "") -> LoadedModel:
    """Load a model.

    Parameters
    ----------
    name, task : see `resolve`.
    device : see `devices.choose_device`.
    engine : "torch", "openvino" or "auto", see `engine.with_engine`; "": what the environment variable BREASTUSAI_ENGINE says, which
        `--engine` sets for a command and its processes; else "auto".

    Raises
    ------
    ModelError : see `resolve` and `read_verified`; or weights that do not fit the network.
    UsageError : a device that is not there.
    """
    entry, weights = resolve(name, task)
    network, chosen = read_network(entry, weights), choose_device(device)
    volumes = entry.preprocessing.get("dimension") == 3
    from .engine import with_engine
    from .inference import prepared

    network, used = with_engine(network, entry, chosen.name, engine or os.environ.get(ENGINE_VARIABLE, "auto"))
    if used == "torch":
        network = prepared(network, chosen.name, volumes)
    return LoadedModel(entry, network, chosen, used, weights)


def read_state(entry: ModelEntry, weights: Path) -> dict[str, Any]:
    """A model's weights by name, float32, as its network was trained. ModelError: see `read_verified`; or no safetensors."""
    data = read_verified(entry, weights)
    import safetensors.torch

    try:
        state = safetensors.torch.load(data)
    except Exception as error:
        first_line = str(error).splitlines()[0]
        raise ModelError(f"The weights {weights} do not fit model {entry.id!r}: they are no safetensors ({first_line}); give a folder as training left it.") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def network_of(entry: ModelEntry, state: Mapping[str, Any], source: str | Path) -> nn.Module:
    """An entry's network with weights by name, in evaluation mode, on the CPU. ModelError, which names their `source`: see `load`."""
    if entry.network not in NETWORKS:
        raise ModelError(f"Model {entry.id!r} names the network {entry.network!r}; this version knows {', '.join(sorted(NETWORKS))}.")
    module, _, cls = entry.network.partition(".")
    try:
        network = getattr(importlib.import_module(f"..networks.{module}", __package__), cls)(**entry.arguments)
        network.load_state_dict(state)
    except Exception as error:
        first_line = str(error).splitlines()[0]
        raise ModelError(f"The weights {source} do not fit the network {entry.network} of model {entry.id!r} ({first_line}).") from error
    return network.eval().requires_grad_(False)


def read_network(entry: ModelEntry, weights: Path) -> nn.Module:
    """`network_of` a weight file, in float32, batch normalisation folded in. ModelError: see `load`."""
    from .inference import fold_normalisation

    return fold_normalisation(network_of(entry, read_state(entry, weights), weights))


class ModelCache:
    """Keeps models once loaded, for runs over many images. Owned by the caller; nothing is global."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str, str], LoadedModel] = {}

    def get(self, name: str | Path = "", task: str = "segment", device: str = "auto") -> LoadedModel:
        key = (str(name), task, device)
        if key not in self._models:
            self._models[key] = load(name, task, device)
        return self._models[key]
