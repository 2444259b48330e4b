"""The overview of a run: the page, the tables, and the record by which a run is repeated."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from fake_worker import FakeWorker
from test_report import NASTY, Page, grey, study_of
from test_run import fake_run, image_at

from BreastUSAILib import RESEARCH_USE, cli, run_index, run_manifest
from BreastUSAILib.errors import ModelError, UsageError
from BreastUSAILib.files import MEASUREMENTS
from BreastUSAILib.inputs import read_run
from BreastUSAILib.run import run
from BreastUSAILib.run_input import RunOptions
from BreastUSAILib.run_overview import Result, write_overview
from BreastUSAILib.workup import DetectionOptions, WorkupOptions


def overview(folder, results, parquet=False):
    """The page and its rows, the rows of summary.csv, and what `write_overview` returned."""
    folder.mkdir(exist_ok=True)
    told = write_overview(folder, folder, results, [], "Finished.", parquet)
    page = (folder / "index.html").read_text(encoding="utf-8")
    with (folder / "summary.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return page, rows_of(page), rows, told


def rows_of(page):
    return json.loads(page.split('id="rows">')[1].split("</script>")[0])


@pytest.mark.parametrize("name", NASTY)
def test_names_cannot_break_the_page(name, tmp_path):
    study = study_of(grey(), ((10, 20), (30, 15)), name=f"/in/{name}")
    page, rows, _, _ = overview(tmp_path, [Result(name, "f", study), Result(name, message=name)])
    assert [t for t, _ in Page(page).tags].count("script") == 3
    shown = name.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    assert [row["path"] for row in rows] == [shown, shown] and rows[1]["found"] == shown


def test_links_of_the_page_lead_to_the_files(tmp_path):
    results = []
    for folder in ("ä #1", "50% off?", "a&b", "con:x", "plain"):
        study = study_of(grey(), ((10, 20), (30, 15)), name=f"/in/{folder}.png")
        (tmp_path / folder).mkdir()
        for file in ("scene.mrb", "report.html", "preview.jpg"):
            (tmp_path / folder / file).write_bytes(b"x")
        results.append(Result(study.image.path, folder, study))
    page, rows, _, _ = overview(tmp_path, results)
    for row in rows:
        assert row["files"] == ["scene.mrb"]
        for file in ("report.html", "preview.jpg", *row["files"]):
            link = row["at"] + file
            assert link.startswith("./") and not set("?#") & set(link) and (tmp_path / unquote(link)).is_file()
    assert {link for link in Page(page).links} == {"summary.csv", "studies.csv", "run.json"}
    assert "http" not in page.replace("http-equiv", "")  # nothing from outside


def test_the_page_counts_and_lists(tmp_path):
    results = [
        Result("/in/a.png", "a", study_of(grey(), ((10, 20), (30, 15)), ((50, 2), (9, 9)), name="/in/a.png")),
        Result("/in/b.png", "b", study_of(grey(), name="/in/b.png")),
        Result("/in/c.png", message="/in/c.png is empty (0 bytes); copy or export it again."),
    ]
    page, rows, _, told = overview(tmp_path, results)
    text = " ".join(Page(page).text.split())
    assert "Results of 3 inputs" in text and "1 with a lesion 1 without 2 lesions in all 1 failed" in text
    assert "Longest diameter, mm" in text and text.count(RESEARCH_USE) == 2 and "failures.csv" in text
    assert rows[0]["lesions"] == 2 and rows[0]["major_diameter_mm"] == 12.35 and rows[0]["score"] == 0.934
    assert rows[1]["found"] == "No lesion found." and "score" not in rows[1]
    assert rows[2] == {"name": "c.png", "path": "/in/c.png", "failed": True, "found": results[2].message}
    assert told.counts.failed == 1 and told.models[0]["id"] == "m1"


def test_the_summary_has_a_row_for_each_finding_each_empty_input_and_each_failure(tmp_path):
    two = study_of(grey(), ((10, 20), (30, 15)), ((50, 2), (9, 9)), name="/in/a.png")
    results = [Result("/in/a.png", "a", two), Result("/in/b.png", "b", study_of(grey())), Result("c", message="no, image")]
    _, _, rows, _ = overview(tmp_path, results)
    assert [(r["status"], r["n_findings"], r["finding"], r["folder"]) for r in rows] == [
        ("done", "2", "L1", "a"), ("done", "2", "L2", "a"), ("done", "0", "", "b"), ("failed", "", "", ""),
    ]  # fmt: skip
    assert rows[0]["major_diameter_mm"] == "12.346" and rows[3]["message"] == "no, image"
    with (tmp_path / "studies.csv").open(newline="") as stream:
        studies = list(csv.DictReader(stream))
    assert [(s["input"], s["status"], s["highest_score"], s["pixels_1"]) for s in studies] == [
        ("/in/a.png", "done", "0.934", "80"), ("/in/b.png", "done", "", "80"), ("c", "failed", "", ""),
    ]  # fmt: skip
    assert (tmp_path / "failures.csv").read_text().splitlines() == ["input,message,path", 'c,"no, image",']
    overview(tmp_path, results[:2])
    assert not (tmp_path / "failures.csv").exists()


def test_inputs_of_the_same_name_are_told_apart_by_their_paths(tmp_path, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    paths = []
    for site in ("north", "south"):
        image_at(tmp_path / site / "a.png")
        (tmp_path / site / "b.png").write_bytes(b"no image")
        monkeypatch.chdir(tmp_path / site)
        fake_run(["a.png", "b.png"], tmp_path / "out", parquet=True)
        paths += [(name, str(tmp_path / site / name)) for name in ("a.png", "b.png")]
    for table, expected in (("studies.csv", paths), ("failures.csv", paths[1::2])):
        with (tmp_path / "out" / table).open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert list(rows[0])[-1] == "path" and sorted((r["input"], r["path"]) for r in rows) == sorted(expected)
    assert sorted(pq.read_table(tmp_path / "out" / "studies.parquet").column("path").to_pylist()) == sorted(path for _, path in paths)


def test_a_renamed_archive_is_told_as_it_counts_twice(tmp_path):
    for name in "abc":
        image_at(tmp_path / "old" / f"{name}.png", value=ord(name))
    image_at(tmp_path / "old" / "a-again.png", value=ord("a"))  # the same bytes, and both are there
    told = []
    fake_run([tmp_path / "old"], tmp_path / "out", told.append)
    assert told == []
    (tmp_path / "old").rename(tmp_path / "new")
    (tmp_path / "new" / "c.png").unlink()
    fake_run([tmp_path / "new"], tmp_path / "out", told.append)
    (said,) = told
    assert said.startswith("3 results have the same bytes (SHA-256) as others whose files are gone, and count twice in all totals; ")
    assert said.endswith("remove the old folders of results: a, a-again, b.")
    for name in ("a", "a-again", "b"):
        shutil.rmtree(tmp_path / "out" / name)
    told.clear()
    result = fake_run([tmp_path / "new"], tmp_path / "out", told.append)
    assert result.skipped == 3 and not result.failures and not [text for text in told if "bytes" in text]
    with (tmp_path / "out" / "studies.csv").open(newline="") as stream:
        assert [(r["status"], Path(r["path"]).name) for r in csv.DictReader(stream)] == [("done", f"{n}.png") for n in ("a-again", "a", "b", "c")]


def test_measurements_without_a_value_are_empty(tmp_path):
    study = study_of(grey(), ((10, 10), (20, 15)))
    study = replace(study, findings=(replace(study.findings[0], measurements=dict.fromkeys(MEASUREMENTS)),))
    _, rows, table, _ = overview(tmp_path, [Result("a.png", "a", study)])
    assert rows[0]["name"] == "a.png" and all(table[0][name] == "" for name in MEASUREMENTS)
    assert run_index.key_figure(study.findings[0]) == ""


def test_parquet_holds_the_same_with_types(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    two = study_of(grey(), ((10, 20), (30, 15)), ((50, 2), (9, 9)), name="/in/a.png")
    odd = study_of(grey(), ((1, 2), (5, 6)), name="/in/bad-\udcff.png")
    odd = replace(odd, findings=(replace(odd.findings[0], measurements={"new_figure_ml": 2.5}),))
    results = [Result("/in/a.png", "a", two), Result("/in/bad-\udcff.png", "b", odd), Result("c", message="no")]
    overview(tmp_path, results, parquet=True)
    findings, studies = (pq.read_table(tmp_path / name) for name in ("findings.parquet", "studies.parquet"))
    assert findings.num_rows == 3 and studies.num_rows == 3
    assert findings.column("major_diameter_mm").to_pylist() == [12.346, 12.346, None]
    assert findings.column("new_figure_ml").to_pylist() == [None, None, 2.5]
    assert studies.column("n_findings").to_pylist() == [2, 1, None] and studies.column("spacing_known").to_pylist()[0] is True
    overview(tmp_path / "none", [Result("c", message="no")], parquet=True)
    empty = pq.read_schema(tmp_path / "none" / "findings.parquet")
    assert all(empty.field(name).type == findings.schema.field(name).type for name in empty.names)


def test_parquet_that_is_there_is_kept_up_to_date(tmp_path, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    a, bad = image_at(tmp_path / "in" / "a.png"), tmp_path / "in" / "b.png"
    bad.write_bytes(b"not yet")
    out = tmp_path / "out"
    fake_run([a, bad], out, parquet=True)
    image_at(bad)
    assert not fake_run([bad], out).failures
    studies = pq.read_table(out / "studies.parquet")
    assert sorted(studies.column("status").to_pylist()) == ["done", "done"]
    assert pq.read_table(out / "findings.parquet").num_rows == 2
    assert {"studies.parquet", "findings.parquet"} <= set(Page((out / "index.html").read_text()).links)
    # Where it cannot be done, that is an error and not an old table without a word.
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    said = [failure.message for failure in fake_run([a, bad], out).failures]
    assert len(said) == 2 and all(name in said[i] for i, name in enumerate(("studies.parquet", "findings.parquet")))
    assert "pip install breastusai[tables]" in said[0]
    fake_run([a], tmp_path / "other")
    assert not list((tmp_path / "other").glob("*.parquet"))


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_script_of_the_page_sorts_filters_and_turns_pages(tmp_path):
    study = study_of(grey(), ((10, 20), (30, 15)))
    results = [
        Result(f"/in/case{i}.png", f"case{i}", replace(study, findings=(replace(study.findings[0], score=i / 200),)))
        for i in range(120)
    ]
    page = overview(tmp_path, [*results, Result("/in/lost.png", message="gone.")])[0]
    probe = """<script>
      const seen = () => [...document.querySelectorAll("#results tbody tr")].map((row) => row.children[1].textContent);
      const told = {first: seen().length, where: by("where").textContent};
      by("after").click(); by("after").click(); told.last = seen().length; told.failed = seen().at(-1);
      document.querySelector('button[data-key="score"]').click(); document.querySelector('button[data-key="score"]').click();
      told.highest = seen()[0];
      by("words").value = "CASE11"; by("words").dispatchEvent(new Event("input")); told.words = seen();
      by("words").value = ""; document.querySelector('input[data-least="score"]').value = "0.59";
      by("words").dispatchEvent(new Event("input")); told.least = seen();
      document.querySelector('input[data-least="score"]').value = ""; by("state").value = "failed";
      by("state").dispatchEvent(new Event("input")); told.only = seen();
      document.title = JSON.stringify(told);
    </script></body>"""
    (tmp_path / "probe.html").write_text(page.replace("</body>", probe), encoding="utf-8")
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", f"--user-data-dir={tmp_path}/profile"]
    done = subprocess.run([*command, f"file://{tmp_path}/probe.html"], capture_output=True, text=True, timeout=120)
    told = json.loads(done.stdout.split("<title>")[1].split("</title>")[0])
    assert told["first"] == 50 and told["where"] == "1 to 50 of 121" and told["last"] == 21 and told["failed"] == "lost.png"
    assert told["highest"] == "case119.png" and told["only"] == ["lost.png"]
    assert sorted(told["words"]) == sorted(["case11.png", *(f"case11{i}.png" for i in range(10))])
    assert told["least"] == ["case119.png", "case118.png"]


# ------------------------------------------------------------------------------------------------------- the record


def test_a_run_is_repeated_from_its_record(tmp_path, monkeypatch):
    image_at(tmp_path / "in" / "a.png")
    monkeypatch.chdir(tmp_path)
    workup = WorkupOptions(lesions="all", threshold=0.25, detection=DetectionOptions(maximum=3))
    options = RunOptions(tmp_path / "out", workup, spacing_mm=0.5, scene=False, jobs=1, time_limit_s=60.0)
    first = run(["in"], options, make_worker=FakeWorker)
    record = read_run(tmp_path / "out")
    assert record["named"] == ["in"] and record["folder"] == str(tmp_path) and record["machine"]["cores"] >= 1
    assert {"breastusai", "python", "numpy", "torch"} <= set(record["software"])
    monkeypatch.chdir("/")
    manifest = run_manifest.read_manifest(tmp_path / "out")
    again = manifest.run_options(output=tmp_path / "again")
    assert again.workup == workup and again.spacing_mm == 0.5 and not again.scene and again.time_limit_s is None
    second = run(manifest.inputs(), again, make_worker=FakeWorker)
    assert [r.study.findings for r in second.results] == [r.study.findings for r in first.results]


def test_another_model_is_refused_and_other_software_is_told(tmp_path, monkeypatch):
    image_at(tmp_path / "a.png")
    fake_run([tmp_path / "a.png"], tmp_path / "out")
    path = tmp_path / "out" / "run.json"
    record = json.loads(path.read_text())
    assert [m["task"] for m in record["models"]][0] == "segment" and len(record["models"][0]["sha256"]) == 64
    record["software"]["numpy"] = "0.1"
    path.write_text(json.dumps(record))
    manifest = run_manifest.read_manifest(path)
    models = run_manifest.used_models(manifest.run_options(output=tmp_path))
    assert [line for line in manifest.differences(models) if "it was 0.1 then" in line]
    with pytest.raises(ModelError, match="is not the one that is here"):
        manifest.differences([{**m, "sha256": "0" * 64} for m in models])
    newer = {**models[0], "version": "99.0.0", "sha256": "0" * 64}
    with pytest.raises(ModelError, match="results by two models for the same work.* 99.0.0 .*--overwrite"):
        replace(manifest, models=(*manifest.models, newer)).differences(models)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": "breastusai/run/1.0"}', "[" * 100_000])
def test_what_is_no_record_is_told(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises((UsageError, Exception), match="run.json") as caught:
        run_manifest.read_manifest(tmp_path / "run.json")
    assert type(caught.value).__name__ in ("UsageError", "DataError")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "one of the three"),
        (["a.png", "--retry-failed"], "one of the three"),
        (["a.png", "--jobs", "0", "--time-limit", "5"], "cannot end itself"),
        (["a.png", "--jobs", "-1"], "0 or more"),
        (["a.png", "--time-limit", "soon"], "write 90, 10m or 1h"),
        (["a.png", "--memory-limit", "8Q"], "write 900M or 8G"),
        (["a.png", "--memory-limit", "0"], "not possible"),
        (["--from-manifest", "run.json", "--threshold", "0.4"], "leave them out"),
        (["--from-manifest", "run.json", "--lesions", "central"], "leave them out"),
        (["--from-manifest", "missing.json"], "cannot be read as the record"),
        (["a.png", "--jobs", "1", "b.png"], "error: b.png stands apart from what was named before; name all inputs together, then the options.\n"),
        (["a.png", "--jobz", "1"], "unrecognized arguments: --jobz 1"),
    ],
)
def test_options_that_contradict_each_other(tmp_path, capsys, arguments, said):
    assert cli.main(["run", *arguments, "--output", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--no-outlines", "--segment-3d-iterations", "1"], "--no-outlines is given, so that the options of the outlines do nothing"),
        (["--no-grades", "--grade-one-crop"], "--no-grades is given, so that the options of the grades do nothing"),
        (["--no-heatmap", "--heatmap-model", "x"], "--no-heatmap is given, so that the options of the heatmap do nothing"),
        (["--slurm-cores", "3"], "No --slurm N is given, so that its options do nothing"),
        (["--no-outlines", "--no-grades", "--no-heatmap"], ""),
    ],
)
def test_options_of_what_is_switched_off_are_told(tmp_path, capsys, arguments, said):
    assert cli.main(["run", str(tmp_path / "none.png"), *arguments, "--output", str(tmp_path / "out")]) == 1
    streams = capsys.readouterr()
    told = streams.out + streams.err
    assert said in told and ("do nothing" in told) == bool(said)


def test_the_estimate_is_told_in_words(monkeypatch):
    from BreastUSAILib import progress

    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock.now)
    estimate = progress.Estimate()
    assert estimate.left(0, 100) == ""
    estimate.begin(0.0)
    clock.now = 30.0
    assert estimate.left(0.5, 100) == ""  # too early
    assert estimate.left(10, 100) == "about 4 min"  # 3 s each, 90 to go
    assert estimate.left(99, 100) == "less than a minute" and progress.duration(50_000) == "about 14 h"
    lines = progress._Lines()
    lines(0.1, "early")
    clock.now = 95.0
    lines(0.5, "a.png: done")


def test_long_runs_say_how_far_they_are(tmp_path):
    for name in "abcd":
        image_at(tmp_path / "in" / f"{name}.png")
    said = []
    fake_run([tmp_path / "in"], tmp_path / "out", progress=lambda fraction, message: said.append(message))
    assert any(message.startswith("c.png: ") and "; 2 of 4, less than a minute left" in message for message in said)
    said.clear()
    fake_run([tmp_path / "in" / "a.png"], tmp_path / "one", progress=lambda fraction, message: said.append(message))
    assert said[-1] == "a.png: done" and Path(tmp_path / "one").is_dir()
