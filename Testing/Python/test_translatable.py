"""What panels say: translatable, with the papers' references, and by keys that Slicer does not use itself. Read from the source, without Slicer."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(p for p in (ROOT / "BreastUSAI").glob("*/*.py") if (p.parent / "Resources").is_dir())
FILES = [*MODULES, *sorted((ROOT / "BreastUSAILib").glob("slicer_*.py"))]
SHOWN = ("text", "toolTip", "title", "placeholderText")
SAYING = ("showStatus", "showError", "errorDisplay", "confirmOkCancelDisplay")
# Slicer's own keys (its user guide, Mouse & Keyboard Shortcuts), and those of text fields and the Segment Editor.
SLICERS = {
    *(f"Ctrl+{key}" for key in (*"FOSWHBG", *"012345", *"ZYCVXA")),
    *("Ctrl+Shift+Z", "Ctrl+Shift+S", "Ctrl+Shift+O"),
}


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.name)
def test_translated_texts_are_whole_literals(file):
    """The tool that collects texts for translators reads literals: no f-string in `_()`, and no `_()` in an f-string."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside = [n for n in ast.walk(node) if isinstance(n, ast.Call)]
            assert not any(getattr(n.func, "id", "") in ("_", "translate") for n in inside), f"line {node.lineno}"
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "_":
            (argument,) = node.args
            assert isinstance(argument, ast.Constant) and isinstance(argument.value, str), f"line {node.lineno}"


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.name)
def test_no_sentence_is_shown_untranslated(file):
    """A text of several words that goes to a widget or a message as it stands in the source."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        shown = []
        if isinstance(node, ast.Assign) and any(getattr(t, "attr", "") in SHOWN for t in node.targets):
            shown = [node.value]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in SAYING:
            shown = node.args
        for value in shown:
            parts = [value] if isinstance(value, ast.Constant) else getattr(value, "values", [])
            words = " ".join(str(p.value) for p in parts if isinstance(p, ast.Constant))
            assert len(re.findall(r"[A-Za-z]{2,}", words)) < 2, f"line {node.lineno}: {words}"


@pytest.mark.parametrize("file", MODULES, ids=lambda p: p.stem)
def test_help_and_reference_of_each_module(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    texts = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
            literals = [n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
            texts[node.targets[0].attr] = " ".join(literals)
    assert len(texts["helpText"].split()) > 25
    assert "no model" not in texts["helpText"].lower(), "models of every task ship"
    assert re.search(r"After .+ et al\., .+ (19|20)\d\d|[A-Z]\w+ et al\., .+ (19|20)\d\d", texts["acknowledgementText"])


@pytest.mark.parametrize("file", MODULES, ids=lambda p: p.stem)
def test_every_selector_is_told_of_the_scene(file):
    """A selector of nodes without this connection in the .ui file stays empty in Slicer. A table needs none, and one that has it is emptied at the end of
    any batch in the scene, as it has no view node (qMRMLTableViewPrivate::endProcessing)."""
    root = ElementTree.parse(file.parent / "Resources" / "UI" / f"{file.stem}.ui").getroot()
    selectors, tables = ({w.get("name") for w in root.iter("widget") if w.get("class") == kind} for kind in ("qMRMLNodeComboBox", "qMRMLTableView"))
    told = {c.findtext("receiver") for c in root.iter("connection") if c.findtext("slot") == "setMRMLScene(vtkMRMLScene*)"}
    assert selectors and selectors <= told and not tables & told


def test_keys_are_not_slicers_own():
    source = (ROOT / "BreastUSAILib" / "slicer_workup_panel.py").read_text(encoding="utf-8")
    keys = set(re.findall(r'"((?:Ctrl|Alt|Shift)\+[^"]+)"', source))
    assert len(keys) == 5 and not keys & SLICERS
