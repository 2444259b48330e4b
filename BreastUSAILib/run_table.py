"""The results of a run as tables: one row a finding, one row a study, one row a failure; CSV, and Parquet on request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import files
from .atomic import atomic_path
from .errors import DependencyError
from .findings import Study
from .grade_terms import WORDS

if TYPE_CHECKING:
    from .run_overview import Result

SUMMARY = "summary.csv"
STUDIES = "studies.csv"
FAILURES = "failures.csv"
STUDIES_PARQUET = "studies.parquet"
FINDINGS_PARQUET = "findings.parquet"

_ROWS = 1000  # held in memory at a time
_OF_INPUT = ("input", "status", "n_findings", "folder", "message")
FAILURE_COLUMNS = ("input", "message", "path")
STUDY_COLUMNS = (
    *_OF_INPUT, "highest_score", "highest_malignancy", "laterality", "view", "dimension",
    "pixels_1", "pixels_2", "pixels_3", "spacing_1_mm", "spacing_2_mm", "spacing_3_mm", "spacing_known",
    "bytes", "sha256", "models", "device", "seconds", "created", "notes", "path",
)  # fmt: skip
_INTEGERS = {"n_findings", "label", "dimension", "bytes", "pixels_1", "pixels_2", "pixels_3"}
_TRUTHS = {"spacing_known", "not_sure"}
_TEXTS = {
    "input", "status", "folder", "message", "finding", "models", "notes", "sha256", "device", "created",
    "laterality", "view", "path", *WORDS,
}  # fmt: skip


def study_row(result: Result) -> dict[str, Any]:
    """One input as column -> value; what is not known is left out."""
    study = result.study
    if study is None:
        return {"input": result.source, "status": "failed", "message": result.message, "path": result.path}
    info, provenance = study.image, study.provenance
    row: dict[str, Any] = {
        **_of_input(result, study),
        "highest_score": max((f.score for f in study.findings), default=None),
        "highest_malignancy": max((f.malignancy for f in study.findings if f.malignancy is not None), default=None),
        "laterality": info.laterality,
        "view": info.view,
        "dimension": info.dimension,
        "spacing_known": info.spacing_known,
        **{key: value for key, value in dict(provenance.get("input", {})).items() if key in ("bytes", "sha256")},
        "models": "; ".join(f"{m['id']} {m['version']}" for m in provenance.get("models", ())),
        "device": provenance.get("device", {}).get("name"),
        "seconds": round(sum(provenance.get("seconds", {}).values()), 3),
        "created": provenance.get("created"),
        "notes": " ".join(f"{note}." for note in provenance.get("notes", ())),
        "path": result.path,
    }
    for axis, (pixels, spacing) in enumerate(zip(info.size, info.spacing, strict=True), 1):
        row[f"pixels_{axis}"] = pixels
        row[f"spacing_{axis}_mm"] = spacing if info.spacing_known else None
    return row


def finding_rows(result: Result) -> list[dict[str, Any]]:
    """Each finding of one input as column -> value."""
    study = result.study
    if study is None:
        return []
    return [{**_of_input(result, study), **files.finding_row(study, finding)} for finding in study.findings]


def _of_input(result: Result, study: Study) -> dict[str, Any]:
    return {"input": result.source, "status": "done", "n_findings": len(study.findings), "folder": result.folder}


def finding_columns(measurements: Sequence[str]) -> list[str]:
    """The columns of summary.csv and findings.parquet; `measurements`: those of `files.other_columns`."""
    columns = [name for name in files.finding_columns() if name != "image"]
    at = columns.index("models")
    return [*_OF_INPUT, *columns[:at], *measurements, *columns[at:]]


def with_empty(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of summary.csv for one input: one a finding, one where there is none, one where it failed."""
    if row["findings"]:
        return row["findings"]
    return [{key: row["study"][key] for key in (*_OF_INPUT, "spacing_known") if key in row["study"]}]


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any] | list[dict[str, Any]]]) -> None:
    """Write rows, or lists of rows, as `files.to_csv` does. Raises `OutputError`."""
    flat = (row for some in rows for row in (some if isinstance(some, list) else [some]))
    header = files.to_csv(columns, [])
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        stream.write(header)
        for chunk in _chunks(flat):
            known = [{key: row[key] for key in columns if key in row} for row in chunk]
            stream.write(files.to_csv(columns, known)[len(header) :])


def need_parquet() -> None:
    """Raises `DependencyError` where Parquet cannot be written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise DependencyError("--parquet needs pyarrow; install it with: pip install breastusai[tables]") from error


def write_parquet(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as a Parquet file whose columns have the same types in every run. Raises `OutputError`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        **dict.fromkeys(_INTEGERS, pa.int64()),
        **dict.fromkeys(_TRUTHS, pa.bool_()),
        **dict.fromkeys(_TEXTS, pa.string()),
    }
    schema = pa.schema([(name, types.get(name, pa.float64())) for name in columns])
    with atomic_path(path) as temporary, pq.ParquetWriter(str(temporary), schema) as writer:
        for chunk in _chunks(rows):
            writer.write_table(pa.Table.from_pylist([_plain(row, schema) for row in chunk], schema))


def _plain(row: Mapping[str, Any], schema: Any) -> dict[str, Any]:
    text = files.printable
    return {name: text(row[name]) if isinstance(row.get(name), str) else row.get(name) for name in schema.names}


def _chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    iterator = iter(rows)
    while chunk := list(islice(iterator, _ROWS)):
        yield chunk
