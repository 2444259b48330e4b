"""Publishing a model: the figures that go into its card."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch

from BreastUSAILib.errors import ModelError
from BreastUSAILib.models import publish
from BreastUSAILib.models.folder import UNPUBLISHED, save_model


@pytest.mark.parametrize("again", [False, True], ids=["one option", "the option twice"])
def test_all_figures_that_are_named_are_taken(tmp_path, monkeypatch, capsys, again):
    for name, value in (("a", 0.5), ("b", 0.7)):
        (tmp_path / f"{name}.json").write_text(json.dumps({"split": "test", "figures": {"auc": {"value": value}}}))
    (tmp_path / "about.json").write_text("{}")
    taken = {}

    def fake(folder, about, figures):
        taken.update(figures)
        return SimpleNamespace(id="m", version="1.0.0", file="m.safetensors", size_bytes=1)

    monkeypatch.setattr(publish, "publish", fake)
    monkeypatch.setattr(publish, "card", lambda entry: "")
    monkeypatch.setattr(publish, "CARDS", tmp_path)
    first, second = f"own={tmp_path / 'a.json'}", f"other={tmp_path / 'b.json'}"
    options = ["--figures", first, *(["--figures"] if again else []), second]
    assert publish.main([str(tmp_path), "--about", str(tmp_path / "about.json"), *options]) == 0
    assert {name: figures["auc"]["value"] for name, figures in taken.items()} == {"own: test": 0.5, "other: test": 0.7}


def test_a_model_is_not_published_without_a_version(tmp_path, monkeypatch, capsys):
    """Training gives it none: one of its id may ship."""
    network = torch.nn.Linear(2, 1)
    config = {"id": "m", "version": UNPUBLISHED, "task": "segment", "network": "x.Y", "arguments": {}, "preprocessing": {"dimension": 2, "size": 8}}
    folder = save_model(tmp_path / "m", network, config)
    monkeypatch.setattr(publish.catalog, "WEIGHTS", tmp_path / "shipped")
    with pytest.raises(ModelError, match="has no version yet; give one in --about"):
        publish.publish(folder, {}, {})
    assert not (tmp_path / "shipped").exists()


def test_figures_without_a_name_are_refused(tmp_path, capsys):
    (tmp_path / "about.json").write_text("{}")
    assert publish.main([str(tmp_path), "--about", str(tmp_path / "about.json"), "--figures", "a.json"]) == 1
    assert "'a.json' must read NAME=FILE" in capsys.readouterr().err
