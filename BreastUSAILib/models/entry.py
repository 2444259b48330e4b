"""One model of the catalogue, or of a user's own folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import ModelError


@dataclass(frozen=True)
class ModelEntry:
    """What is known of a model.

    Attributes
    ----------
    id, version : name and version.
    task : "segment" (later: detect, grade, heatmap).
    network : module and class in `BreastUSAILib.networks`, e.g. "roi_cnn.RoiCnn".
    arguments : keyword arguments of that class.
    preprocessing : how the input is made (size in pixels, intensity).
    postprocessing : thresholds chosen on validation data.
    file : the weights (safetensors), relative to the catalogue's ``weights`` folder or to the model folder.
    size_bytes, sha256 : of that file; loading checks the latter.
    licence : of the weights.
    trained_on : in plain words; phantoms are named as such.
    measured : data set -> figure -> value, and how they were measured.
    description : one sentence for a list.
    recipe : the settings of the training run.
    reproduce : the command that makes the weights again.
    references : papers and data to cite.
    """

    id: str
    version: str
    task: str
    network: str
    arguments: Mapping[str, Any]
    preprocessing: Mapping[str, Any]
    file: str
    size_bytes: int
    sha256: str
    licence: str
    trained_on: str
    measured: Mapping[str, Any]
    postprocessing: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    reproduce: str = ""
    references: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], source: str) -> ModelEntry:
        """Read an entry; `source` is the file it comes from, for the error (ModelError)."""
        if not isinstance(data, Mapping):
            raise ModelError(f"{source} does not describe a model; it should be what `breastusai train` wrote.")
        known = {f.name for f in fields(cls)}
        needed = {"id", "version", "task", "network", "arguments", "preprocessing", "file", "sha256"}
        missing = sorted(needed - set(data))
        if missing:
            raise ModelError(f"{source} lacks {', '.join(missing)}; it should be what `breastusai train` wrote.")
        values = {"size_bytes": 0, "licence": "unspecified", "trained_on": "unknown", "measured": {}}
        values |= {k: v for k, v in data.items() if k in known}
        values["references"] = tuple(values.get("references", ()))
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}
