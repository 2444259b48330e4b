"""The extension's packaging: what CMake puts where, the descriptions, and that modules import without heavy packages.

CMake runs for real, on a STAND-IN for Slicer's CMake package (slicer_cmake_standin): its macro copies files to the places
where Slicer's own puts them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LIBRARY = ROOT / "BreastUSAILib"
MODULES = ROOT / "BreastUSAI"
NOT_SHIPPED = {"CMakeLists.txt"}
# What the modules' panels share; imported by them alone.
PANEL_FILES = {p.name for p in LIBRARY.glob("slicer_*.py")} - {"slicer_runtime.py", "slicer_install.py"}
PANELS = sorted(p.parent.name for p in MODULES.glob("*/Resources"))


def _shipped_files() -> list[Path]:
    """All files of the library that must reach a user, relative to it."""
    files = (p.relative_to(LIBRARY) for p in LIBRARY.rglob("*") if p.is_file())
    hidden = ("__pycache__", ".")
    return sorted(p for p in files if p.name not in NOT_SHIPPED and not any(s.startswith(hidden) for s in p.parts))


def _run(*command, **kwargs) -> subprocess.CompletedProcess:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300, **kwargs)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The folder of scripted modules in a configured build tree."""
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    if shutil.which("cc") is None or shutil.which("c++") is None:
        pytest.skip("cmake needs a C and a C++ compiler, which are not installed")
    folder = tmp_path_factory.mktemp("build")
    _run("cmake", "-S", ROOT, "-B", folder, f"-DSlicer_DIR={HERE / 'slicer_cmake_standin'}", "-DBUILD_TESTING=ON")
    return folder / "lib" / "qt-scripted-modules"


def test_every_file_of_the_library_is_packaged(build):
    packaged = {p.relative_to(build / "BreastUSAILib") for p in (build / "BreastUSAILib").rglob("*") if p.is_file()}
    assert sorted(packaged) == _shipped_files()
    needed = ("__init__.py", "models/catalog.json", "schemas/study-1.0.schema.json", "requirements-slicer.txt")
    assert {Path(n) for n in needed} <= packaged
    for entry in json.loads((LIBRARY / "models" / "catalog.json").read_text(encoding="utf-8"))["models"]:
        assert Path("models/weights") / entry["file"] in packaged


def test_every_module_has_its_script_panel_icon_and_self_test(build):
    assert {"BreastUSAISegment", "BreastUSAIWorkup"} <= set(PANELS)
    for name in PANELS:
        module = MODULES / name
        for file in (p for p in module.rglob("*") if p.is_file() and p.name != "CMakeLists.txt"):
            if "__pycache__" not in file.parts:
                assert (build / file.relative_to(module)).read_bytes() == file.read_bytes()
        assert (build / f"{name}.py").is_file()
        assert (build / "Resources" / "UI" / f"{name}.ui").is_file()
        assert (build / "Resources" / "Icons" / f"{name}.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert f"{name}.py" in (build / "tests.txt").read_text()


def test_only_modules_lie_where_slicer_looks_for_modules(build):
    """Slicer takes every .py file there for a module; all names are shared with all other extensions."""
    assert sorted(p.name for p in build.glob("*.py")) == [f"{name}.py" for name in PANELS]
    assert all(p.name.startswith("BreastUSAI") for p in build.glob("Resources/*/*"))
    assert (build / "BreastUSAIBatch" / "BreastUSAIBatch.py").is_file()


def test_the_library_works_from_the_build_tree_alone(build, tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(build)!r})\n"
        "import BreastUSAILib\n"
        "from BreastUSAILib.findings import study_schema; from BreastUSAILib.models import catalog\n"
        "from BreastUSAILib import slicer_install\n"
        "assert study_schema() and slicer_install.requirements()\n"
        "assert all((catalog.WEIGHTS / e.file).stat().st_size == e.size_bytes for e in catalog.entries())\n"
        "print(BreastUSAILib.__file__)"
    )
    done = _run(sys.executable, "-IB", "-c", code, cwd=tmp_path)
    assert done.stdout.strip() == str(build / "BreastUSAILib" / "__init__.py")


def test_the_installed_extension_has_the_same_files(build, tmp_path):
    _run("cmake", "--install", build.parents[1], "--prefix", tmp_path)
    installed = {p.relative_to(tmp_path / "lib/qt-scripted-modules") for p in tmp_path.rglob("*") if p.is_file()}
    built = {p.relative_to(build) for p in build.rglob("*") if p.is_file() and p.name != "tests.txt"}
    assert installed == built


def _s4ext() -> dict[str, str]:
    lines = (ROOT / "BreastUSAI.s4ext").read_text(encoding="utf-8").splitlines()
    return dict(line.split(" ", 1) for line in lines if line.strip() and not line.startswith("#"))


def test_the_descriptions_are_complete_and_say_the_same():
    s4ext = _s4ext()
    fields = "scm scmurl scmrevision depends build_subdirectory homepage contributors category iconurl screenshoturls"
    assert set(s4ext) == {*fields.split(), "status", "description", "enabled"}
    assert all(v.strip() for v in s4ext.values())
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    cmake = dict(re.findall(r'set\(EXTENSION_(\w+) "(.*)"\)', text))
    for key, field in {
        "HOMEPAGE": "homepage",
        "CATEGORY": "category",
        "CONTRIBUTORS": "contributors",
        "DESCRIPTION": "description",
        "ICONURL": "iconurl",
        "SCREENSHOTURLS": "screenshoturls",
        "DEPENDS": "depends",
    }.items():
        assert cmake[key] == s4ext[field]
    entry = json.loads((ROOT / "BreastUSAI.json").read_text(encoding="utf-8"))
    assert entry["scm_url"] == s4ext["scmurl"] and entry["category"] == s4ext["category"]
    assert entry["build_dependencies"] == s4ext["depends"].split()
    assert entry["scm_revision"] == s4ext["scmrevision"]
    assert "not a medical device" in s4ext["description"]


def test_the_entry_for_the_extensions_index_is_valid():
    """By its schema 1.0.2 (Slicer's Schemas folder), in our own words, as that file is not copied here."""
    entry = json.loads((ROOT / "BreastUSAI.json").read_text(encoding="utf-8"))
    assert entry["$schema"].endswith("/Schemas/slicer-extension-catalog-entry-schema-v1.0.2.json#")
    kinds = {"$schema": str, "category": str, "scm_url": str, "scm_revision": str, "scm_type": str, "build_dependencies": list}
    kinds |= {"dicom_support_rule": str, "build_subdirectory": str, "enabled": bool, "tier": int}
    assert {"$schema", "category", "scm_url"} <= set(entry) <= set(kinds)
    assert all(type(value) is kinds[key] for key, value in entry.items())
    assert all(isinstance(name, str) for name in entry["build_dependencies"])
    assert 1 <= entry.get("tier", 1) <= 5 and entry.get("scm_type", "git") == "git"
    # The checks of the index itself (its scripts/check_description_files.py): the repository's name says Slicer, the project
    # is called like the description, the category is a known one, there is a licence.
    found = re.fullmatch(r"https://github\.com/[\w-]+/([\w-]+)\.git", entry["scm_url"])
    assert found and "slicer" in found[1].lower()
    assert entry["category"] == "Ultrasound" and (ROOT / "LICENSE").is_file()
    assert "project(BreastUSAI)" in (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


def test_pictures_that_the_descriptions_name_are_there():
    from PIL import Image

    s4ext = _s4ext()
    for url in (s4ext["iconurl"], *s4ext["screenshoturls"].split()):
        path = ROOT / url.split("/main/", 1)[1]
        assert path.is_file(), f"{path} is missing"
    with Image.open(ROOT / "BreastUSAI.png") as icon:
        assert icon.size == (128, 128)


def test_requirements_name_nothing_that_slicer_bundles():
    from BreastUSAILib import slicer_install

    names = [re.split(r"[<>=!~\[ ;]", r)[0].lower() for r in slicer_install.requirements()]
    assert names and not {n.lower() for n in slicer_install.BUNDLED} & set(names)
    assert "torch" not in names
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for requirement in (*slicer_install.requirements(), slicer_install.PYDICOM):
        assert f'"{requirement}"' in project, f"{requirement} differs from pyproject.toml"


BLOCKED = ("torch", "monai", "skimage", "scipy", "safetensors", "pydicom", "PIL", "tqdm", "matplotlib")


@pytest.mark.parametrize("name", PANELS)
def test_modules_import_and_open_without_heavy_packages(name):
    """Slicer loads every module at its start; there, none of these is installed or may be loaded. On the stand-in."""
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    pytest.importorskip("PySide6", reason="PySide6 is not installed")
    module = MODULES / name / f"{name}.py"
    code = f"""
import sys
sys.path[:0] = [{str(HERE)!r}]
for name in {BLOCKED!r}:
    sys.modules[name] = None
sys.path = [p for p in sys.path if p != {str(ROOT)!r}]
import pathlib
sys.path.append({str(ROOT)!r})
from slicer_standin import slicer_application
with slicer_application(pathlib.Path({str(module)!r})) as slicer:
    import qt
    import {name} as m
    parent = slicer.qMRMLWidget(); parent.setLayout(qt.QVBoxLayout())
    description = m.{name}(type("Parent", (), {{"path": {str(module)!r}}})())
    assert description.parent.categories == ["Ultrasound"]
    assert "not a medical device" in description.parent.helpText
    panel = m.{name}Widget(parent); panel.setup(); panel.enter()
    panel.cleanup()
print("fine")
"""
    done = _run(sys.executable, "-c", code, cwd=HERE)
    assert done.stdout.strip() == "fine"


def test_module_files_import_nothing_heavy_and_nothing_gone_at_file_scope():
    import ast

    for file in [*MODULES.rglob("*.py")]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert "imp" not in names
        top = {a.name.split(".")[0] for n in tree.body if isinstance(n, ast.Import) for a in n.names}
        top |= {n.module.split(".")[0] for n in tree.body if isinstance(n, ast.ImportFrom)}
        allowed = {"qt", "ctk", "slicer", "vtk", "numpy", "SimpleITK", "BreastUSAILib"} | set(sys.stdlib_module_names)
        assert top <= allowed, f"{file.name} imports {top - allowed} at file scope"


def test_logic_has_no_gui():
    """No pop-ups and no views in the library and in the Logic, so that both run without a window."""
    import ast

    gui = re.compile(r"\b(layoutManager|\w+Display\(|QMessageBox|mainWindow)\b")
    logics = {MODULES / name / f"{name}.py": f"{name}Logic" for name in PANELS}
    shared = {"slicer_panel": "AnalysisLogic", "slicer_image_logic": "ImageOrVolumeLogic", "slicer_workup_logic": "WorkupLogic"}
    logics |= {LIBRARY / f"{file}.py": name for file, name in shared.items()}
    for file, name in logics.items():
        source = file.read_text(encoding="utf-8")
        logic = next(n for n in ast.parse(source).body if getattr(n, "name", "") == name)
        text = ast.get_source_segment(source, logic)
        assert not gui.search(text) and "qt." not in text
    for file in LIBRARY.rglob("*.py"):
        if file.name in PANEL_FILES:
            continue
        body = file.read_text(encoding="utf-8")
        assert not re.search(r"^\s*(import|from) (qt|ctk)\b", body, re.MULTILINE), file
        # The files that know MRML nodes name their types for the reader of the source.
        if not file.name.startswith("mrml") and file.name not in ("slicer_runtime.py", "slicer_install.py"):
            assert not re.search(r"^\s*(import|from) (slicer|vtk)\b", body, re.MULTILINE), file
