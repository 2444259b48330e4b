"""How lesions of volumes are outlined: what a user chooses, and what that comes to with a model's own choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import ModelError, UsageError
from .lesion_crop import CropRule

if TYPE_CHECKING:
    from .models.zoo import LoadedModel

DEFAULT_THRESHOLD = 0.5
DEFAULT_ITERATIONS = 2
MOST_ITERATIONS = 4
_FLIPS = ((), (2,), (4,), (2, 4))  # axes of (N, 1, z, y, x): slice and lateral; nobody scans from below


@dataclass(frozen=True)
class Segment3dOptions:
    """Choices of the user.

    Attributes
    ----------
    threshold : probability above which a voxel is lesion, 0 to 1; None: the model's own.
    iterations : N, passes of the network, each given the map of the one before, 0 to 4 (0 and 1: one pass); None: the model's own.
    uncertainty : whether mirror images are looked at too, which steadies the outline and says how sure it is; a quarter of the time without.
    refine : whether 3D Chan-Vese refines the outline; None: where validation has shown that it helps.
    """

    threshold: float | None = None
    iterations: int | None = None
    uncertainty: bool = True
    refine: bool | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"The threshold is {self.threshold}; it must lie between 0 and 1.")
        if self.iterations is not None and not 0 <= self.iterations <= MOST_ITERATIONS:
            raise UsageError(f"The number of iterations is {self.iterations}; it must be from 0 to {MOST_ITERATIONS}.")


@dataclass(frozen=True)
class Settings:
    """What the model's `postprocessing` and the user's options come to."""

    rule: CropRule
    threshold: float
    iterations: int
    opinions: tuple[float, ...]
    flips: tuple[tuple[int, ...], ...]
    refiner: dict[str, Any] | None

    @classmethod
    def of(cls, model: LoadedModel, options: Segment3dOptions) -> Settings:
        chosen = model.entry.postprocessing
        answers = model.network.answers
        opinions = tuple(float(w) for w in chosen.get("opinions", ())) or (1 / max(answers, 1),) * answers
        if len(opinions) != answers:
            raise ModelError(
                f"Model {model.entry.id!r} weights {len(opinions)} opinions on malignancy and has {answers}; train it again."
            )
        refiner = chosen.get("refiner")
        if options.refine is not None:
            refiner = (refiner or {}) if options.refine else None
        return cls(
            rule=CropRule.of(model.entry.preprocessing),
            threshold=float(
                options.threshold if options.threshold is not None else chosen.get("threshold", DEFAULT_THRESHOLD)
            ),
            iterations=int(
                options.iterations if options.iterations is not None else chosen.get("iterations", DEFAULT_ITERATIONS)
            ),
            opinions=opinions,
            flips=_FLIPS if options.uncertainty else _FLIPS[:1],
            refiner=refiner,
        )
