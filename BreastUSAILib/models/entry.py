"""One model of the catalogue, or of a user's own folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ..errors import ModelError


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _positive(value: Any) -> bool:
    return _number(value) and value > 0


def _whole(value: Any) -> bool:
    return isinstance(value, int) and _positive(value)


def _scales(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) > 0 and all(map(_positive, value)) and value[0] == 1


def _three(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 3 and all(map(_positive, value))


_Rule = tuple[str, Callable[[Any], bool]]
"""What a value must be, in words, and whether one is."""
_TEXT: _Rule = ("text", lambda value: isinstance(value, str))
_MAPPING: _Rule = ("settings by name, {...}", lambda value: isinstance(value, Mapping))
_FIELDS: dict[str, _Rule] = {
    **dict.fromkeys(("id", "version", "task", "network", "file", "sha256", "licence", "trained_on", "description", "reproduce"), _TEXT),
    **dict.fromkeys(("arguments", "preprocessing", "postprocessing", "measured", "recipe"), _MAPPING),
    "size_bytes": ("a whole number", lambda value: value == 0 or _whole(value)),
    "references": ("a list of texts", lambda value: isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)),
}
_THREE: _Rule = ("three numbers above 0", _three)
_PREPROCESSING: dict[str, _Rule] = {
    **dict.fromkeys(("spacing", "crop", "patch", "shape"), _THREE),
    **dict.fromkeys(("finest", "coarsest", "margin"), ("a number above 0", _positive)),
    "size": ("a whole number above 0", _whole),
}
def _along_axes(value: Any) -> bool:
    numbers = value if isinstance(value, (list, tuple)) else [value] * 3
    return len(numbers) == 3 and all(v == 0 or _whole(v) for v in numbers)


_POSTPROCESSING: dict[str, _Rule] = {
    "mirrors": ("1, 2 or 4", lambda value: _whole(value) and value in (1, 2, 4)),
    "finer_mirrors": ("1, 2, 4 or null", lambda value: value is None or (_whole(value) and value in (1, 2, 4))),
    "scales": ("a list of numbers above 0 that begins with 1", _scales),
    "spline": ("1 or 2", lambda value: _whole(value) and value in (1, 2)),
    "scored_by": ('"patch" or "peak"', lambda value: value in ("patch", "peak")),
    "threshold": ("a number from 0 to 1", lambda value: _number(value) and 0 <= value <= 1),
    "full_heat": ("a number above 0", _positive),
    "fraction": ("a number above 0, up to 1", lambda value: _positive(value) and value <= 1),
    "maximum": ("a whole number above 0", _whole),
    "shared": ("a whole number from 0, or three of them", _along_axes),
}
_NEEDED = {
    "segment": ("size",),
    "detect": ("spacing",),
    "heatmap": ("spacing", "patch", "crop"),
    "lesion-classifier": ("shape", "margin"),
    "segment-3d": ("shape", "finest", "coarsest", "margin"),
    **dict.fromkeys(("grade-gcnn", "grade-mtnet", "grade-snnet"), ("size", "view", "margin", "mask")),
}
"""What of its preprocessing a task cannot do without."""


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
        _check(values, _FIELDS, "", source)
        _check(values["preprocessing"], _PREPROCESSING, "preprocessing, ", source)
        _check(values.get("postprocessing", {}), _POSTPROCESSING, "postprocessing, ", source)
        missing = [name for name in _NEEDED.get(values["task"], ()) if name not in values["preprocessing"]]
        if missing:
            raise ModelError(f"{source} lacks {', '.join(missing)} in preprocessing; it should be what `breastusai train` wrote.")
        values["references"] = tuple(values.get("references", ()))
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        return {f.name: list(v) if isinstance(v := getattr(self, f.name), tuple) else v for f in fields(self)}


def _check(values: Mapping[str, Any], rules: Mapping[str, _Rule], where: str, source: str) -> None:
    """ModelError where one of these values is not what it must be, as in a file that was edited by hand."""
    for name, (wanted, holds) in rules.items():
        if name in values and not holds(values[name]):
            said = json.dumps(values[name], default=str)[:60]
            raise ModelError(f"{source}: {where}{name} is {said}; it must be {wanted}: correct it, or restore the file.")
