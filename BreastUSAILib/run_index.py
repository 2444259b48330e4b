"""index.html of a run: a table of all inputs with previews, to be sorted, filtered and paged without a network.

The rows are data in the page; its script shows a page of them at a time, so that a table of thousands opens at once and
loads only the previews that are seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .atomic import atomic_path
from .files import printable
from .findings import Finding, Study
from .report_parts import ASSETS, number, render, title_and_unit

if TYPE_CHECKING:
    from .run_overview import Counts, Result

INDEX = "index.html"

# What an overview shows of a lesion's size: measured in its mask, or else in its box.
_KEY_FIGURES = ("major_diameter_mm", "major_diameter_px")
_LONGEST_SIDES = ("longest_side_mm", "longest_side_px")
_PLAIN_FAILURES = 100  # shown where scripts are switched off; failures.csv has all
_ROWS_HERE = "@rows@"  # the last one in the page is ours: names of files, which may hold it too, come before


@dataclass
class Columns:
    """Which columns there is something for: probabilities of malignancy, sizes and their units."""

    judged: bool = False
    sizes: set[str] = field(default_factory=set)

    def take_in(self, study: Study) -> None:
        self.judged = self.judged or any(finding.malignancy is not None for finding in study.findings)
        self.sizes.update(name for finding in study.findings for name in _sizes(finding))

    def titles(self) -> list[dict[str, Any]]:
        """Title and key of each column of figures."""
        columns = [("Detection score", "score")]
        if self.judged:
            columns.append(("Highest malignancy", "malignancy"))
        sizes = [name for name in (*_KEY_FIGURES, *_LONGEST_SIDES) if name in self.sizes]
        return [
            {"title": title, "key": key} for title, key in [*columns, *((_with_unit(name), name) for name in sizes)]
        ]


def row(result: Result, files: Sequence[str]) -> dict[str, Any]:
    """What the page shows of an input: figures by the keys of `Columns.titles`, and the names of the files to link to."""
    name = Path(result.source).name or result.source
    if result.study is None:
        return {"name": name, "path": result.source, "found": result.message, "failed": True}
    findings = result.study.findings
    first = next(iter(findings), None)
    judged = [f.malignancy for f in findings if f.malignancy is not None]
    return {
        "name": name,
        "path": result.source,
        "found": result.study.summary,
        "lesions": len(findings),
        "at": _address(result.folder),
        "files": list(files),
        **({"score": round(first.score, 4)} if first else {}),
        **({"malignancy": round(max(judged), 4)} if judged else {}),
        **{key: float(number(value)) for key, value in (_sizes(first) if first else {}).items()},
    }


def write_index(
    path: Path,
    counts: Counts,
    status: str,
    columns: Columns,
    rows: Iterable[dict[str, Any]],
    failures: Iterable[dict[str, Any]],
    parquet: bool,
) -> None:
    """Write the page. Raises `OutputError`.

    Parameters
    ----------
    counts : of all inputs.
    status : one sentence on when and how the run ended.
    columns : that have taken in every study.
    rows : from `row`.
    failures : those of `rows` that failed; the first ones are told without the script as well.
    parquet : whether there are tables as Parquet, to link to.
    """
    page = render(
        "index.html.j2",
        counts=asdict(counts),
        status=status,
        columns=columns.titles(),
        failures=list(islice(failures, _PLAIN_FAILURES)),
        parquet=parquet,
        rows_here=_ROWS_HERE,
        script=(ASSETS / "index.js").read_text(encoding="utf-8"),
    )
    head, _, tail = page.rpartition(_ROWS_HERE)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(head)
        for count, item in enumerate(rows):
            # No text may end the script element that holds it.
            text = printable(json.dumps(item, ensure_ascii=False)).replace("<", "\\u003c")
            stream.write(("," if count else "") + "\n" + text)
        stream.write(tail)


def key_figure(finding: Finding) -> str:
    """A finding's size for a line of text, ``", longest diameter 9.52 mm"``; "" where it was not measured."""
    for name, value in _sizes(finding).items():
        title, unit = title_and_unit(name)
        return f", {title.lower()} {number(value)} {unit}"
    return ""


def _sizes(finding: Finding) -> dict[str, float]:
    """The one figure that an overview shows of a finding's size, by its name; empty where nothing was measured."""
    for name in _KEY_FIGURES:
        if finding.measurements.get(name) is not None:
            return {name: finding.measurements[name]}
    for name in _LONGEST_SIDES:
        unit = name.rpartition("_")[2]
        sides = [finding.measurements.get(f"{side}_{unit}") for side in ("width", "height", "length")]
        if None not in sides:
            return {name: max(sides)}
    return {}


def _with_unit(name: str) -> str:
    title, unit = title_and_unit(name)
    return f"{title}, {unit}" if unit else title


def _address(folder: str) -> str:
    """A relative address; the leading ./ keeps a colon in a name from being read as a scheme."""
    return f"./{quote(folder, safe='')}/"
