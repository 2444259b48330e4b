"""The table of several measured detectors beside the published figures, on hand-made results of `evaluate detect`."""

import json

import pytest

from BreastUSAILib import cli
from BreastUSAILib.errors import DataError, UsageError
from BreastUSAILib.evaluation import detect_table as table
from BreastUSAILib.evaluation.tables import rows_of

HEADER = "data,volume,lesion,malignant,volume_ml,posterior,found,iou,score,judged_malignancy,score_iou_0.3\n"


def figure(value, half=0.02):
    return {"value": value, "low": value - half, "high": value + half}


def measured(folder, sensitivity=0.9, lesions=3, posterior="0.9", data=("test",), split="test", **counts):
    """What `evaluate detect` leaves, as far as the table reads it."""
    folder.mkdir()
    figures = {
        "sensitivity": figure(sensitivity),
        "false_positives": figure(1.5, 0.5),
        "mean_iou": figure(0.625),
        "froc_mean": figure(0.7),
        "malignancy_auc_found": figure(0.81),
        "malignancy_accuracy_found": {"value": 0.75, "low": None, "high": None},
        "malignancy_sensitivity_found": {"value": None, "low": None, "high": None},
    }
    summary = {"volumes": 4, "healthy_volumes": 1, "lesions": lesions, "malignant": 1, **counts, "figures": figures}
    about = {
        "models": [{"id": "m", "version": "1.0.0", "sha256": "0123456789abcdef", "task": "detect", "trained_on": "9 volumes"}],
        "split": split,
        "operating_point": {"least_score": 0.25, "most": None},
        "data_sets": {name: summary for name in data},
    }
    (folder / "figures.json").write_text(json.dumps(about))
    rows = [f"{data[0]},v{i},1,0,0.5,{posterior},1,0.5,0.9,0.1,0.9\n" for i in range(lesions)]
    (folder / "lesions.csv").write_text(HEADER + "".join(rows))
    return folder


def cells(markdown, name):
    """The rows of that name, as lists of cells: of the first and of the second table."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line.startswith("|")]
    return [line for line in lines if line[0] == name]


def test_a_row_holds_this_projects_figures_and_the_papers(tmp_path, capsys):
    rows = [f"RPN={measured(tmp_path / 'e1', 0.8)}", f"RPN-IoU-Sim={measured(tmp_path / 'e2')}", f"ours={measured(tmp_path / 'e3')}"]
    assert cli.main(["evaluate", "detect-table", "--rows", *rows, "--output", str(tmp_path / "out" / "table.md")]) == 0
    text = (tmp_path / "out" / "table.md").read_text()
    assert capsys.readouterr().out.strip() == text.strip()
    detection, diagnosis = cells(text, "RPN-IoU-Sim")
    ours = ["0.625 (0.605 to 0.645)", "1.500 (1.000 to 2.000)", "0.900 (0.880 to 0.920)", "0.700 (0.680 to 0.720)"]
    assert detection[1:] == [*ours, "-", "1.23", "0.9766"]
    assert diagnosis[1:] == ["0.810 (0.790 to 0.830)", "0.750", "-", "-", "-", "0.8720", "-", "-", "-"]
    for name, sensitivity in (("RPN", "0.800 (0.780 to 0.820)"), ("ours", "0.900 (0.880 to 0.920)")):
        detection, diagnosis = cells(text, name)
        assert detection[3] == sensitivity and detection[5:] == ["-"] * 3 and diagnosis[6:] == ["-"] * 4
    for title in (cells(text, "method")[0], cells(text, "method")[1]):
        assert all("this project" in cell or "paper (clinical)" in cell for cell in title[1:])
    assert "Not the same data" in text and "synthetic phantoms" in text and "418 patients" in text
    assert "m 1.0.0 (SHA-256 0123456789ab, trained on 9 volumes)" in text and "RPN 0.25" in text


def test_volumes_of_patients_are_not_called_phantoms(tmp_path):
    row = table.read_row("a", measured(tmp_path / "e", posterior=""))
    assert "synthetic" not in table.as_markdown([row])


def test_operating_points_are_stated_where_they_are_not_the_usual(tmp_path):
    rows = [table.read_row(name, measured(tmp_path / name)) for name in ("usual", "other")]
    usual = table.as_markdown(rows)
    assert "At most" not in usual and "called malignant" not in usual
    folder = tmp_path / "other"
    about = json.loads((folder / "figures.json").read_text())
    about |= {"operating_point": {"least_score": 0.25, "most": 1}, "malignant_from": 0.1}
    (folder / "figures.json").write_text(json.dumps(about))
    text = table.as_markdown([rows[0], table.read_row("other", folder)])
    assert "At most so many were reported a volume: usual all, other 1." in text
    assert "They were called malignant from these probabilities on: usual 0.5, other 0.1;" in text


def test_phantoms_are_called_so_also_where_their_posterior_is_open(tmp_path):
    """As those of another program leave it."""
    for number, (synthetic, posterior) in enumerate(((4, ""), (3, ""), (0, "0.9"))):
        row = table.read_row("a", measured(tmp_path / str(number), posterior=posterior, synthetic_volumes=synthetic))
        assert ("all of them synthetic" in table.as_markdown([row])) is (synthetic == 4)


@pytest.mark.parametrize("other", [{"lesions": 2}, {"malignant": 2}, {"healthy_volumes": 0}, {"split": "validation"}, {"data": ("x",)}])
def test_what_was_measured_on_other_volumes_is_refused(tmp_path, other):
    rows = [table.read_row("a", measured(tmp_path / "a")), table.read_row("b", measured(tmp_path / "b", **other))]
    with pytest.raises(DataError, match=r"b \(.*\) and a \(.*\) were measured on different volumes"):
        table.as_markdown(rows)


@pytest.mark.parametrize(("column", "value"), [("malignant", "1"), ("volume_ml", "0.51"), ("posterior", "0.8")])
def test_other_lesions_of_the_same_names_are_refused(tmp_path, column, value):
    """The test volumes of every TDSC-ABUS are called 130 to 199, and a hospital's own may lie in a folder of the same name."""
    first, other = (table.read_row(name, measured(tmp_path / name)) for name in "ab")
    table.check_same([first, other])
    lesions = tmp_path / "b" / "lesions.csv"
    titles, *rows = [line.split(",") for line in lesions.read_text().splitlines()]
    place = titles.index(column)
    rows[1][place] = value
    lesions.write_text("\n".join(",".join(row) for row in (titles, *rows)) + "\n")
    with pytest.raises(DataError, match="were measured on different volumes"):
        table.check_same([first, table.read_row("b", tmp_path / "b")])
    # Earlier versions may not have had a column; what a table does not know is not different.
    lesions.write_text("\n".join(",".join(row[:place] + row[place + 1 :]) for row in (titles, *rows)) + "\n")
    table.check_same([first, table.read_row("b", tmp_path / "b")])


def test_one_of_several_data_sets(tmp_path):
    folder = measured(tmp_path / "e", data=("one",))
    about = json.loads((folder / "figures.json").read_text())
    one = about["data_sets"]["one"]
    about["data_sets"] |= {"two": {**one, "lesions": 1}, "all": {**one, "lesions": 4}}
    (folder / "figures.json").write_text(json.dumps(about))
    with (folder / "lesions.csv").open("a") as stream:
        stream.write("two,w0,1,0,0.5,,1,0.5,0.9,0.1,0.9\n")
    assert len(table.read_row("a", folder, "one").lesions) == 3 and table.read_row("a", folder, "one").phantom
    two, together = table.read_row("a", folder, "two"), table.read_row("a", folder)
    assert two.lesions == (("two", "w0", "1"),) and two.counts["lesions"] == 1 and not two.phantom
    assert together == table.read_row("a", folder, "all") and len(together.lesions) == 4 and not together.phantom
    with pytest.raises(DataError, match="no data set 'three'; choose from one, two, all"):
        table.read_row("a", folder, "three")


@pytest.mark.parametrize("name", ["figures.json", "lesions.csv"])
@pytest.mark.parametrize("content", [None, "{}", "nothing,at\nall,2\n"])
def test_folders_of_something_else_are_told(tmp_path, name, content):
    folder = measured(tmp_path / "e")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(DataError, match="is not what breastusai evaluate detect left.*measure a again"):
        table.read_row("a", folder)


@pytest.mark.parametrize("rows", [["RPN"], ["=x"], ["a=x", "a=y"], ["a="]])
def test_rows_that_are_none_are_refused(rows):
    with pytest.raises(UsageError, match="--rows"):
        rows_of(rows)


def test_methods_of_the_paper_are_known_however_they_are_spelt():
    assert [table.paper_name(n) for n in ("2d u-net", "3D-UNet", "rpn_iou", "RPN IoU Sim", "RPN-Sim")] == [
        "2D-U-Net",
        "3D-U-Net",
        "RPN-IoU",
        "RPN-IoU-Sim",
        None,
    ]
    assert set(table.PAPER_FIGURES) <= set(table.PAPER_ROWS)
