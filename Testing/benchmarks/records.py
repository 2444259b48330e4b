"""What was measured, kept beside the page, so that a case can be measured again alone and a run that breaks off loses nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from machine import Machine
from runner import Case, Contender, Figures, Outcome

_CALLED = ("ours", "peers", "variants", "quality")


@dataclass(frozen=True)
class Record:
    """An outcome, the machine that it was measured on, and how, in words."""

    outcome: Outcome
    machine: Machine
    how: str


def read(path: Path) -> list[Record]:
    """The records of a file; none where there is no such file."""
    if not path.exists():
        return []
    return [_from(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]


def write(path: Path, records: Sequence[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps([_to(r) for r in records], indent=1, allow_nan=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


def merged(records: Sequence[Record], new: Record) -> list[Record]:
    """`records` with a new one in the place of the same case's on the same machine, else at the end."""

    def key(record: Record) -> tuple[str, str]:
        return record.outcome.case.name, record.machine.words()

    places = [key(r) for r in records]
    if key(new) not in places:
        return [*records, new]
    return [new if place == key(new) else r for place, r in zip(places, records, strict=True)]


def _to(record: Record) -> dict:
    outcome = record.outcome
    return {
        "case": {f.name: getattr(outcome.case, f.name) for f in fields(Case) if f.name not in _CALLED},
        "ours": asdict(outcome.ours),
        "peers": [asdict(p) for p in outcome.peers],
        "variants": [asdict(v) for v in outcome.variants],
        "ratios": outcome.ratios,
        "machine": asdict(record.machine),
        "how": record.how,
    }


def _from(entry: dict) -> Record:
    ours = Figures(**entry["ours"])
    peers, variants = (tuple(Figures(**f) for f in entry[name]) for name in ("peers", "variants"))
    named = [[Contender(f.name, _gone) for f in several] for several in ([ours], peers, variants)]
    case = Case(ours=named[0][0], peers=named[1], variants=named[2], **entry["case"])
    return Record(
        Outcome(case, ours, peers, tuple(tuple(r) for r in entry["ratios"]), variants),
        Machine(**entry["machine"]),
        entry["how"],
    )


def _gone() -> None:
    raise RuntimeError("a record cannot be run again")
