"""The documentation does what it says: code runs, commands are understood, links lead somewhere, panels are described as they are."""

import io
import re
import shlex
import xml.etree.ElementTree as ElementTree
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import SimpleITK as sitk

from BreastUSAILib import cli
from BreastUSAILib.sample_data import sample_path, truth_path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MODULES = ROOT / "BreastUSAI"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
OURS = [
    DOCS / "scripting.md",
    DOCS / "tutorial.md",
    DOCS / "troubleshooting.md",
    *sorted((DOCS / "modules").glob("*.md")),
]


def blocks(path, language):
    """(heading above, text) of the code blocks of a language."""
    found, heading = [], ""
    text = path.read_text(encoding="utf-8")
    for match in re.finditer(r"^#+ ([^\n]+)$|^```([^\n]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        if match[1]:
            heading = match[1]
        elif match[2].strip() == language:
            found.append((heading, match[3]))
    return found


# ------------------------------------------------------------------------------------------------------------ snippets

PYTHON = blocks(DOCS / "scripting.md", "python")
SLICER = blocks(DOCS / "scripting.md", "python slicer")
# What the reader should get, by the heading: a piece of what is printed, or of a file that is written.
SAID = {
    "An image: find, outline, measure": "1 lesion found.",
    "With options, progress, and a way to stop it": "stopped by the script",
    "Masks and figures as NumPy and tables": "1 1.10 ml",
    "Clock position and distance from the nipple": "Right breast, 10 o’clock, 4 cm from the nipple (upper outer)",
    "A whole volume in one picture, to be clicked": "L1 (",
    "Compare with an earlier examination": "L1 -> L2 +102 %",
    "Synthetic volumes with exact truth": "(48, 32, 48) 0.",
    "Many inputs": "1 with a lesion; []",
    "A model of your own": "roi-cnn-compact",
    "With MONAI": "(1, 1, 192, 192)",
    "An image, in line": "1 lesion(s)",
    "A study from what was corrected by hand": "case.nrrd,",
}


def prepare(folder, code):
    """What a block says that is there: a model of your own, results of an earlier run."""
    if '"my-detector"' in code:
        from small_models import detector_folder

        detector_folder(folder / "my-detector")
    if 'read_study(Path("results' in code:
        from BreastUSAILib.files import write_study

        write_study(known_study(sample_path("breast-2d")), folder / "results" / "breast-2d")


def known_study(path):
    from BreastUSAILib.findings import Finding, ImageInfo, Study
    from BreastUSAILib.grid import box_of_mask

    mask = sitk.ReadImage(str(truth_path("breast-2d")), sitk.sitkUInt8)
    return Study(ImageInfo.of(mask, str(path)), (Finding("L1", box_of_mask(mask), 0.9, mask=mask, label=1),))


def execute(heading, code, folder, monkeypatch):
    prepare(folder, code)
    monkeypatch.chdir(folder)
    output = io.StringIO()
    with redirect_stdout(output):
        exec(compile(code, f"docs/scripting.md: {heading}", "exec"), {"__name__": "snippet"})
    assert SAID.get(heading, "") in output.getvalue()


@pytest.mark.parametrize("heading, code", PYTHON, ids=[h for h, _ in PYTHON])
def test_python_snippets_run_as_they_stand(heading, code, tmp_path, monkeypatch):
    if "write_scene" in code:
        pytest.importorskip("slicer", reason="slicer-core is not installed")
    execute(heading, code, tmp_path, monkeypatch)
    for name in re.findall(r'Path\("([\w-]+\.\w+)"\)', code):
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize("heading, code", SLICER, ids=[h for h, _ in SLICER])
def test_slicer_snippets_run_on_slicers_own_scene(heading, code, tmp_path, monkeypatch):
    """On the stand-in for Slicer's GUI; `slicer.util.loadVolume`, which needs the application, reads with our own reader."""
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    pytest.importorskip("PySide6", reason="PySide6 is not installed")
    from slicer_standin import slicer_application

    from BreastUSAILib import mrml
    from BreastUSAILib.image import read_image

    with slicer_application(MODULES / "BreastUSAISegment" / "BreastUSAISegment.py") as slicer:
        load = lambda path: mrml.add_volume(slicer.mrmlScene, read_image(path).image, "loaded")  # noqa: E731
        monkeypatch.setattr(slicer.util, "loadVolume", load, raising=False)
        if "GetFirstNodeByClass" in code:
            study = known_study("case.nrrd")
            volume = mrml.add_volume(slicer.mrmlScene, study.findings[0].mask, "case.nrrd")
            mrml.show_study(slicer.mrmlScene, study, volume)
        execute(heading, code, tmp_path, monkeypatch)
        assert slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLSegmentationNode") is not None


def test_every_expected_answer_belongs_to_a_snippet():
    assert set(SAID) <= {heading for heading, _ in (*PYTHON, *SLICER)}
    assert len(PYTHON) >= 10 and len(SLICER) >= 3


# ------------------------------------------------------------------------------------------------------------ commands


def commands(path):
    text = path.read_text(encoding="utf-8")
    for _, block in (*blocks(path, ""), *blocks(path, "sh"), *blocks(path, "bash")):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words and Path(words[0]).name == "breastusai":
                yield words[1:]
    for line in re.findall(
        r"`breastusai ([^`|\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    ):
        words = shlex.split(line)
        if not any(w in ("...", "…") for w in words) and len(words) > 1:
            yield words


@pytest.mark.parametrize("page", OURS, ids=lambda p: p.stem)
def test_commands_are_understood(page, capsys):
    for words in commands(page):
        if words[0] in ("train", "evaluate") and len(words) == 2:
            assert words[1] in cli._LAZY[words[0]]  # a name in running text
            continue
        try:
            cli.build_parser(words).parse_args(words)
        except SystemExit:
            pytest.fail(f"breastusai {' '.join(words)}: {capsys.readouterr().err}")


# --------------------------------------------------------------------------------------------------------------- links


def anchors(path):
    headings = re.findall(
        r"^#+ (.+)$",
        re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL),
        re.MULTILINE,
    )
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page.name} links to {target}"


def test_pictures_are_small():
    pictures = [p for p in DOCS.rglob("*.png") if p.parent.name == "screenshots"]
    named = {
        Path(t).name for page in PAGES for t in re.findall(r"\]\(([^)\s]+\.png)\)", page.read_text(encoding="utf-8"))
    }
    for name in ("navigator.png", "comparison.png"):
        assert name in named and (DOCS / "screenshots" / name).stat().st_size < 200_000
    assert pictures


# ------------------------------------------------------------------------------------------------------------- modules


def panels():
    return sorted(MODULES.glob("*/Resources/UI/*.ui"))


@pytest.mark.parametrize("panel", panels(), ids=lambda p: p.stem)
def test_each_module_has_a_page_that_names_all_it_can_be_told(panel):
    page = (DOCS / "modules" / f"{panel.stem}.md").read_text(encoding="utf-8")
    for heading in ("In and out", "The panel", "Method", "Figures", "Limits"):
        assert f"\n## {heading}\n" in page, heading
    assert "research use only" in page.lower()
    labels = [
        prop.findtext("string").strip()
        for widget in ElementTree.parse(panel).iter("widget")
        if widget.get("class") == "QLabel"
        for prop in widget.findall("property")
        if prop.get("name") == "text" and prop.findtext("string")
    ]
    for label in (text[:-1] for text in labels if text.endswith(":")):
        assert label.lower() in page.lower(), f"{panel.stem}.md does not say what {label!r} is"
    assert f"({panel.stem}.md)" in (DOCS / "modules" / "README.md").read_text(encoding="utf-8")


def test_figures_on_module_pages_are_the_readmes():
    """Written once more by hand, so held together here."""
    figures = re.findall(r"0\.\d{3}", (DOCS / "modules" / "BreastUSAISegment.md").read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert figures and all(figure in readme for figure in figures)


# ----------------------------------------------------------------------------------------------------- troubleshooting


def test_troubles_quote_messages_that_exist():
    """Each "You see" holds a piece of a message, word for word, as it stands in the source (or is another program's)."""
    text = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    troubles = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert len([t for t in troubles if re.match(r"\d+\. ", t)]) >= 15
    source = "".join(
        p.read_text(encoding="utf-8") for folder in (ROOT / "BreastUSAILib", MODULES) for p in folder.rglob("*.py")
    )
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # sentences are broken into lines
    quoted = re.findall(r"You see: \*([^*]+)\*", text)
    assert len(quoted) >= 10
    for sentence in quoted:
        for piece in filter(None, (p.strip() for p in re.split(r"…", sentence))):
            assert piece in source, piece


def test_the_tutorial_has_ten_steps():
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    assert [int(n) for n in re.findall(r"^## (\d+)\. ", text, re.MULTILINE)] == list(range(1, 11))
