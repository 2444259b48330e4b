"""What a run must be told, and on what it ran, so that it can be repeated: written into run.json, and read from there."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

from . import __version__
from .errors import DataError, ModelError, UsageError, in_words
from .inputs import RUN_SCHEMA
from .processor import cores
from .run_input import RunOptions, absolute_model
from .workup_options import change_models

# What has a part in the figures.
_SOFTWARE = ("torch", "SimpleITK", "numpy", "scipy", "scikit-image", "Pillow", "pydicom", "safetensors", "slicer-core")
# Choices of how the work is done; none changes a result.
HOW = (
    "output", "anonymize", "key_file", "jobs", "overwrite", "debug", "parquet", "isolate", "time_limit_s", "memory_limit_bytes",
    "scheduler", "slurm",
)  # fmt: skip


@dataclass(frozen=True)
class Manifest:
    """A run as it was asked for.

    Attributes
    ----------
    path : the run.json.
    names : what was named, with folders relative to `folder`.
    folder : where the command was given.
    options : the fields of `RunOptions` that change results.
    models : id, version, task, sha256 of each model.
    software : package -> version.
    how : the choices that change no result (`HOW`), as JSON has them.
    """

    path: Path
    names: tuple[str, ...]
    folder: Path
    options: Mapping[str, Any]
    models: tuple[Mapping[str, str], ...]
    software: Mapping[str, str]
    how: Mapping[str, Any]

    def inputs(self) -> list[str]:
        """What was named, wherever the command is given now."""
        return [os.path.join(self.folder, name) for name in self.names]

    def run_options(self, **how: Any) -> RunOptions:
        """The options of this run; `how`: the choices that change no result (`HOW`), which are made anew."""
        from .workup import WorkupOptions

        try:
            rest = {name: value for name, value in self.options.items() if name != "workup"}
            return RunOptions(workup=WorkupOptions.from_dict(self.options["workup"]), **rest, **how)
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{self.path} was written by another version of BreastUSAI ({error}); name the options yourself."
            ) from error

    def differences(self, models: Sequence[Mapping[str, str]]) -> list[str]:
        """What is not as it was, one sentence each: the software, which may change figures in their last digits.

        Raises
        ------
        ModelError : a model is another one than then: its results cannot be had.
        """
        now = {model["task"]: model for model in models}
        then = {model["task"]: model for model in self.models}
        for model in self.models:
            other = then[model["task"]]
            if other["sha256"] != model["sha256"]:
                raise ModelError(
                    f"{self.path} tells of results by two models for the same work, {_named(model)} and {_named(other)}: no one run "
                    "made them. Run the inputs with --overwrite, so that one model makes all."
                )
            other = now.get(model["task"])
            if other is None or other["sha256"] != model["sha256"]:
                raise ModelError(
                    f"{self.path} was made with the model {_named(model)}, "
                    f"which is not the one that is here; install the BreastUSAI {self.software.get('breastusai', '')} of then, or "
                    "put the model's folder back where it was."
                )
        return self.other_software()

    def other_software(self) -> list[str]:
        """What of the software is not as it was, one sentence each."""
        versions = software()
        return [
            f"{package} is {versions.get(package, 'not installed')} here; it was {version} then."
            for package, version in sorted(self.software.items())
            if versions.get(package) != version
        ]


def _named(model: Mapping[str, str]) -> str:
    return f"{model['id']} {model['version']} (SHA-256 {model['sha256'][:12]}...)"


def current_folder() -> str:
    """The folder that one is in. UsageError where it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise UsageError(
            "The folder that you are in was removed; go to one that is there (cd) and give the command again."
        ) from error


def manifest(names: Sequence[str], options: RunOptions, models: Sequence[Mapping[str, str]] = ()) -> dict[str, Any]:
    """The part of run.json that says how to repeat the run, JSON-serialisable. UsageError: see `current_folder`.

    Parameters
    ----------
    names : what was named on the command line.
    options : of the run.
    models : those of the studies, where these are known; otherwise the ones that will be used.
    """
    how = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(options).items() if name in HOW}
    return {
        "command": list(sys.argv),
        "folder": current_folder(),
        "named": list(names),
        "software": software(),
        "machine": machine(),
        "models": list(models) or used_models(options),
        "options": told_options(options),
        "how": how,
    }


def told_options(options: RunOptions) -> dict[str, Any]:
    """The options that change results, as run.json tells them and they are read again, so that two can be compared."""
    return json.loads(json.dumps({name: value for name, value in asdict(options).items() if name not in HOW}))


def of_retry(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The part of run.json after a retry: what the run was told, so that it can be repeated, and under ``retry`` what the retry was told.

    Parameters
    ----------
    earlier : run.json as it was.
    now : `manifest` of the retry, with the models that it uses.
    """
    # The models stay, too: with those of the retry beside them, no installation would have all once a version changed.
    kept = {name: earlier.get(name, value) for name, value in now.items()}
    told = ("command", "folder", "software", "machine", "models", "options", "how")
    return {**kept, "retry": {name: now[name] for name in told}}


def read_manifest(path: Path) -> Manifest:
    """Raises `UsageError` where `path` is no run.json, `DataError` where it does not say how to repeat its run."""
    path = path / "run.json" if path.is_dir() else path
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} cannot be read as the record of a run ({error}); give the run.json of its results."
        ) from error
    if not isinstance(record, dict) or record.get("schema") != RUN_SCHEMA:
        raise UsageError(f"{path} is no record of a run; give the run.json of its results.")
    record = with_absolute_models(record)
    try:
        names, folder = tuple(map(str, record["named"])), Path(record["folder"])
        models = tuple({k: str(m.get(k, "")) for k in ("id", "version", "task", "sha256")} for m in record["models"])
        software_then = {str(k): str(v) for k, v in record["software"].items()}
        options = known_options(record["options"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{path} does not say how its run was made ({in_words(error)}); name inputs and options yourself."
        ) from error
    how = record.get("how")
    return Manifest(path, names, folder, options, models, software_then, how if isinstance(how, dict) else {})


def known_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those among the options of a run.json that this version has."""
    return {k: v for k, v in dict(options).items() if k in {f.name for f in fields(RunOptions)}}


def with_absolute_models(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A run.json whose options name the folders of models by their paths from the root (`absolute_models`)."""
    folder, options = record.get("folder"), record.get("options")
    if not isinstance(folder, str) or not isinstance(options, dict):
        return record
    return {**record, "options": absolute_models(options, folder)}


def absolute_models(options: Mapping[str, Any], folder: str | os.PathLike) -> dict[str, Any]:
    """Options of a run.json with the folders of models by their paths from the root.

    Versions before wrote them as they were named in the folder of the command, `folder`. One that is not there any more is not one of that
    name in the folder that one is in now.
    """

    def absolute(name: str) -> str:
        there = absolute_model(name, folder)
        return os.path.join(folder, name) if there == name != absolute_model(name) else there

    return change_models(options, absolute)


def used_models(options: RunOptions) -> list[dict[str, str]]:
    """The models that these options name; one that is not there is left out (the inputs that need it will fail)."""
    from .models.zoo import resolve

    models = []
    for task, name in {**options.workup.models("segment"), **options.workup.models("detect")}.items():
        try:
            entry = resolve(name, task)[0]
        except ModelError:
            continue
        models.append({"id": entry.id, "version": entry.version, "sha256": entry.sha256, "task": task})
    return models


def software() -> dict[str, str]:
    """Versions of BreastUSAI, Python, and the packages that have a part in the figures."""
    versions = {"breastusai": __version__, "python": platform.python_version()}
    for package in _SOFTWARE:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, Any]:
    """What the run was made on; the device of the networks is in each study."""
    return {"system": platform.platform(), "processor": platform.processor() or platform.machine(), "cores": cores()}
