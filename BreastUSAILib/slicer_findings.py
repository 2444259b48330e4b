"""The list of findings in a panel: rows sorted by suspicion, what stands in them, and moving among them.

Imported by the Slicer modules only: it needs Slicer's Qt. The list may hold findings of several images.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import qt
from slicer.i18n import tr as _

from . import breast_position
from .comparison import FOLLOWED, GONE, NEW, NOT_IMAGED
from .findings import Finding, Study
from .grade_terms import stated_category
from .review import ACCEPTED, REJECTED, Review, suspicion
from .terminology import lesion_color

IMAGE_COLUMN = 2  # shown where there are several images
_DIAMETERS = (
    ("major_diameter", "second_diameter", "third_diameter"),
    ("major_diameter", "minor_diameter"),
    ("width", "height", "length"),
    ("width", "height"),
)


@dataclass(frozen=True)
class Row:
    """One finding in the list.

    Attributes
    ----------
    shown : id of the node that shows its image's result.
    image : name of the image; with a number where several have the same.
    finding, study : the finding, and the study that it is of.
    review : what a person said of it.
    index : its place in the study, from which it has its colour.
    change : what became of it since an earlier examination, in words, or "".
    """

    shown: str
    image: str
    finding: Finding
    study: Study = field(repr=False)
    review: Review = Review()
    index: int = 0
    change: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.shown, self.finding.id


def sort_rows(rows):
    """The most suspicious first."""
    return sorted(rows, key=lambda row: suspicion(row.finding), reverse=True)


# --- words -----------------------------------------------------------------------------------------------------------


def percent(value):
    return "" if value is None else f"{value:.0%}"


def birads_words(finding):
    """ "4B (63 %)": the stated category, and its own probability; "" where it was not graded."""
    if not finding.birads:
        return ""
    category = stated_category(finding.birads)
    return f"{category} ({percent(finding.birads[category])})"


def volume_words(finding):
    for name, unit in (("volume_ml", "ml"), ("volume_px3", "px³")):
        value = finding.measurements.get(name)
        if value is not None:
            return f"{value:.3g} {unit}"
    return ""


def diameter_words(finding):
    """ "14 × 11 × 9 mm": the diameters of an outline, or else the sides of the box."""
    for unit in ("mm", "px"):
        for names in _DIAMETERS:
            values = [finding.measurements.get(f"{name}_{unit}") for name in names]
            if None not in values:
                return f"{' × '.join(f'{v:.1f}' if unit == 'mm' else f'{v:.0f}' for v in values)} {unit}"
    return ""


def clock_words(row):
    """ "10 h, 38 mm": on the clock face about the nipple, and how far from it; "" where nobody said where the nipple is."""
    place = breast_position.position_of(row.study, row.finding)
    if place is None:
        return ""
    hour = _("nipple") if place.hour is None else _("{hour} h").format(hour=place.hour)
    return f"{hour}, {place.distance_mm:.0f} mm"


def verdict_words(review):
    words = {ACCEPTED: _("✓ accepted"), REJECTED: _("✗ rejected")}
    return words.get(review.verdict, "")


def change_words(comparison, pair):
    """What became of a finding of a `comparison.Comparison`: "+35 % volume, +1.2 mm", "new" ..."""
    if pair.status != FOLLOWED:
        return {NEW: _("new"), NOT_IMAGED: _("not imaged before")}.get(pair.status, "")
    growth = comparison.growth(pair)
    if growth is None:
        return _("there before")
    before, now = growth.diameters_mm[0]
    return _("{volume:+.0f} % volume, {diameter:+.1f} mm").format(
        volume=round(growth.volume_change_percent), diameter=now - before
    )


def gone_words(comparison):
    """A sentence on findings of the earlier examination that are not there now; "" where all are."""
    gone = [pair.earlier.id for pair in comparison.of(GONE)]
    return _("No longer there since the earlier examination: {ids}.").format(ids=", ".join(gone)) if gone else ""


def columns():
    """(title, tool tip, words of a row); a column without any words is not shown."""
    return (
        (_("Finding"), _("Its name in the views."), lambda r: r.finding.id),
        (_("Verdict"), _("What you said of it."), lambda r: verdict_words(r.review)),
        (_("Image"), _("The image or view in which it was found."), lambda r: r.image),
        (_("Score"), _("How sure it is that there is a lesion."), lambda r: percent(r.finding.score)),
        (_("Malignant"), _("Probability that the lesion is malignant."), lambda r: percent(r.finding.malignancy)),
        (
            _("BI-RADS"),
            _("Category (the median of their probabilities), and how probable it is by itself."),
            lambda r: birads_words(r.finding),
        ),
        (_("Volume"), _("Of the outlined lesion."), lambda r: volume_words(r.finding)),
        (
            _("Diameters"),
            _("Longest first, each across the others; without an outline, the sides of the box."),
            lambda r: diameter_words(r.finding),
        ),
        (_("Clock"), _("Hour on the clock face about the nipple, and distance from it."), clock_words),
        (_("Change"), _("Since the earlier examination: volume, and longest diameter."), lambda r: r.change),
        (_("Note"), _("What you noted."), lambda r: r.review.note),
    )


def details(row):
    """A finding in a few lines, as rich text: what the columns hold, further figures, and what models and reader noted."""
    finding = row.finding
    parts = [
        (_("score"), percent(finding.score)),
        (_("malignant"), percent(finding.malignancy)),
        (_("BI-RADS"), birads_words(finding)),
        (_("volume"), volume_words(finding)),
        (_("diameters"), diameter_words(finding)),
    ]
    text = f"<b>{_escaped(finding.id)}</b> " + ", ".join(f"{name} {words}" for name, words in parts if words)
    place = breast_position.position_of(row.study, finding)
    lines = [text, *([str(place)] if place is not None else ()), *map(_escaped, finding.notes)]
    return "<br>".join(lines)


def _escaped(text):
    return text.replace("&", "&amp;").replace("<", "&lt;")


# --- the widget ------------------------------------------------------------------------------------------------------


class FindingsTable:
    """Rows in a QTableWidget.

    Parameters
    ----------
    widget : the QTableWidget.
    """

    def __init__(self, widget):
        self._widget = widget
        self._rows = []
        widget.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        widget.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        widget.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        widget.setWordWrap(False)
        widget.verticalHeader().setVisible(False)

    @property
    def rows(self):
        return list(self._rows)

    def show(self, rows):
        """Show these, sorted by suspicion; what was chosen stays chosen where it is still there. Tells nobody."""
        chosen = self.current()
        self._rows = sort_rows(rows)
        several = len({row.shown for row in self._rows}) > 1
        kept = []
        for number, (title, tip, words) in enumerate(columns()):
            cells = [words(row) for row in self._rows]
            if any(cells) and (several or number != IMAGE_COLUMN):
                kept.append((title, tip, cells))
        blocked = self._widget.blockSignals(True)
        try:
            self._widget.clear()
            self._widget.setRowCount(len(self._rows))
            self._widget.setColumnCount(len(kept))
            self._widget.setHorizontalHeaderLabels([title for title, _tip, _cells in kept])
            for column, (_title, tip, cells) in enumerate(kept):
                self._widget.horizontalHeaderItem(column).setToolTip(tip)
                for line, words in enumerate(cells):
                    self._widget.setItem(line, column, self._item(self._rows[line], words, column == 0))
            self._widget.resizeColumnsToContents()
            self._choose(next((i for i, r in enumerate(self._rows) if chosen and r.key == chosen.key), -1))
        finally:
            self._widget.blockSignals(blocked)

    def current(self):
        """The row that is chosen, or None."""
        index = self._widget.currentRow()
        return self._rows[index] if 0 <= index < len(self._rows) else None

    def step(self, by):
        """Choose the next row but `by` - 1; from none the first, at the ends round to the other. Whether there is any."""
        if not self._rows:
            return False
        index = self._widget.currentRow()
        self._choose((index + by) % len(self._rows) if index >= 0 else (0 if by > 0 else len(self._rows) - 1))
        return True

    def choose(self, key):
        """Choose the row with a key; whether there is one. Tells as a click does."""
        index = next((i for i, row in enumerate(self._rows) if row.key == key), -1)
        if index >= 0:
            self._choose(index)
        return index >= 0

    def _choose(self, index):
        if index >= 0:
            self._widget.setCurrentCell(index, 0)
        else:
            self._widget.setCurrentCell(-1, -1)
            self._widget.clearSelection()

    def _item(self, row, words, first):
        item = qt.QTableWidgetItem(words)
        if first:
            swatch = qt.QPixmap(12, 12)
            swatch.fill(qt.QColor.fromRgbF(*lesion_color(row.index)))
            item.setIcon(qt.QIcon(swatch))
        if row.review.verdict == REJECTED:
            # Struck out rather than grey: it is to be read on light and on dark themes.
            font = item.font()
            font.setStrikeOut(True)
            item.setFont(font)
        item.setToolTip(details(row))
        return item
