"""For maintainers: take a trained model folder into the catalogue that ships.

``python -m BreastUSAILib.models.publish DIR --about about.json [--figures NAME=figures.json ...]``

`about.json` holds what training cannot know (id, licence, description, trained_on, reproduce, references); the figures are what
``breastusai evaluate`` wrote for this very model. Weights are stored as fp16, so evaluate the published model, not
the one that training left, and publish again with the figures: the weights stay the same, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..errors import BreastUSAIError, ModelError
from . import catalog
from .cards import card
from .entry import ModelEntry
from .folder import CONFIG, UNPUBLISHED, WEIGHTS, save_weights, sha256
from .zoo import read_verified

CARDS = Path("docs/models")


def publish(folder: Path, about: dict[str, Any], figures: dict[str, Any]) -> ModelEntry:
    """Put a model folder's weights (fp16) and description into the catalogue; replaces an entry of the same id.

    Raises ModelError when the folder's weights do not have their checksum.
    """
    from safetensors.torch import load

    source = ModelEntry.from_dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")), str(folder / CONFIG))
    state = load(read_verified(source, folder / WEIGHTS))
    values = source.to_dict() | about
    if values["version"] == UNPUBLISHED:
        raise ModelError(f"{folder} has no version yet; give one in --about.")
    file = f"{values['id']}.safetensors"
    weights = save_weights(catalog.WEIGHTS / file, state, half=True)
    values |= {"file": file, "size_bytes": weights.stat().st_size, "sha256": sha256(weights)}
    values["measured"] = {**source.measured, **figures}
    entry = ModelEntry.from_dict(values, str(folder / CONFIG))
    known = {e.id: e for e in catalog.entries()} if catalog.CATALOG.is_file() else {}
    known[entry.id] = entry  # in the place of the one before it
    models = [e.to_dict() for e in known.values()]
    text = json.dumps({"schema": "breastusai/catalog/1.0", "models": models}, indent=2)
    write_text(catalog.CATALOG, text + "\n")
    return entry


def stated_figures(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Data set (or another part) -> figure -> value, of a figures.json, whichever `breastusai evaluate` wrote it.

    The protocols on volumes state counts and, under "figures", values with their intervals; that on images plain values; that of heatmaps
    has one part, and values with their intervals at once.
    """
    found = {}
    if (
        all(isinstance(value, dict) and "value" in value for value in data.get("figures", {}).values())
        and "data_sets" not in data
    ):
        counts = {name: value for name, value in data.items() if isinstance(value, int)}
        return {str(data.get("split", "test")): {**counts, **data["figures"]}}
    for part, summary in (data.get("data_sets") or data["figures"]).items():
        stated = summary.get("figures")
        counts = {name: value for name, value in summary.items() if isinstance(value, int)}
        found[part] = {**counts, **stated} if isinstance(stated, dict) else summary
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--about", type=Path, required=True)
    parser.add_argument("--figures", nargs="*", action="extend", default=[], metavar="NAME=FILE")
    args = parser.parse_args(argv)
    try:
        figures = {}
        for item in args.figures:
            name, separator, file = item.partition("=")
            if not separator:
                raise ModelError(f"--figures {item!r} must read NAME=FILE.")
            for source, values in stated_figures(json.loads(Path(file).read_text(encoding="utf-8"))).items():
                figures[f"{name}: {source}"] = values
        entry = publish(args.folder, json.loads(args.about.read_text(encoding="utf-8")), figures)
        write_text(CARDS / f"{entry.id}.md", card(entry))
    except (BreastUSAIError, OSError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{entry.id} {entry.version}: {entry.file}, {entry.size_bytes / 1e6:.2f} MB; card in {CARDS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
