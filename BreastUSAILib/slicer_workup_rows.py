"""The findings of a workup's results as rows of the list: with what a person said of them, where they lie about the nipple, and what
became of them since an earlier examination.

Imported by the Slicer modules only: it needs Slicer's Qt. Reads nodes, changes none.
"""

from __future__ import annotations

from dataclasses import replace

from slicer.i18n import tr as _

from . import mrml, mrml_workup
from .breast_position import with_positions as with_clock_positions
from .comparison import compare
from .errors import UsageError
from .review import REJECTED, Review
from .slicer_findings import Row, change_words, gone_words


def rows(results, parameters):
    """The findings of some results as rows, and a sentence where the positions about the nipple or changes cannot be told, or "".

    Parameters
    ----------
    results : the results' nodes.
    parameters : the wrapped parameter node: inputVolume, earlier, nipple, breast.

    Raises
    ------
    DataError : what a node keeps cannot be read.
    """
    found, hints = [], []
    for shown, name in zip(results, _image_names(results), strict=True):
        study, there = mrml_workup.listed(shown)
        reviews, image = mrml_workup.reviews_of(shown), mrml_workup.image_of(shown)
        try:
            study = with_positions(study, image, parameters)
        except UsageError as error:
            hints.append(str(error))
        changes = {}
        if image is parameters.inputVolume and parameters.earlier is not None:
            changes, hint = _changes(study, there, parameters)
            hints.append(hint)
        ids = {f.id for f in there}
        for index, finding in enumerate(study.findings):
            if finding.id in ids:
                review = reviews.get(finding.id, Review())
                change = changes.get(finding.id, "")
                found.append(Row(shown.GetID(), name, finding, study, review, index, change))
    return found, " ".join(dict.fromkeys(h for h in hints if h))


def _image_names(results):
    """The names of the results' images; those that several have are numbered: two views may come from files of the same name."""
    names = [mrml_workup.image_of(shown).GetName() for shown in results]
    return [f"{name} ({names[: i + 1].count(name)})" if names.count(name) > 1 else name for i, name in enumerate(names)]


def with_positions(study, volume, parameters):
    """The study with clock positions where the nipple was placed and it is a volume. UsageError where they cannot be told."""
    points = _nipple_points(volume, parameters)
    if not points or not mrml.is_volume(volume):
        return study
    return with_clock_positions(study, points[0], parameters.breast.value)


def positioner(volume, parameters):
    """What adds clock positions to a study without looking at nodes again; studies without come back as they are."""
    points = _nipple_points(volume, parameters)
    side = parameters.breast.value
    if not points or not mrml.is_volume(volume):
        return lambda study: study

    def place(study):
        try:
            return with_clock_positions(study, points[0], side)
        except UsageError:
            return study  # the panel says why

    return place


def _nipple_points(volume, parameters):
    return mrml.points_of(volume, parameters.nipple) if parameters.nipple is not None else ()


def _changes(study, there, parameters):
    """What became of the findings since the earlier examination: finding -> words, and a sentence on the rest, or why nobody knows."""
    volume = parameters.earlier
    shown = mrml_workup.workup_of(volume)
    if shown is None:
        return {}, _("Run the workup on {volume} as well, to compare with it.").format(volume=volume.GetName())
    earlier, was_there = mrml_workup.listed(shown)
    rejected = {i for i, review in mrml_workup.reviews_of(shown).items() if review.verdict == REJECTED}
    try:
        earlier = replace(earlier, findings=tuple(f for f in was_there if f.id not in rejected))
        now = replace(study, findings=_those(study, there))
        compared = compare(with_positions(earlier, volume, parameters), now)
    except UsageError as error:
        return {}, str(error)
    return {p.later.id: change_words(compared, p) for p in compared.pairs if p.later is not None}, gone_words(compared)


def _those(study, findings):
    """Of a study's findings, those that are still there."""
    ids = {f.id for f in findings}
    return tuple(f for f in study.findings if f.id in ids)
