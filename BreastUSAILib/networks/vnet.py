"""The joint network: the outline of a lesion in a 3D crop, and whether it is malignant.

Zhou Y, Chen H, Li Y, et al. Multi-task learning for segmentation and classification of tumors in 3D automated breast
ultrasound images. Medical Image Analysis 70:101918, 2021. A V-Net (Milletari et al. 2016) of nine stages: five going down,
by 2 x 2 x 2 convolutions of stride 2, four coming up again, with skip connections; 3 x 3 x 3 convolutions, batch normalisation
and ReLU. The classification branch takes the global average of the maps of some stages (4, 5 and 6), each l2-normalised
over its channels, one after the other, through two fully connected layers. In iterative refinement the network is given
the volume and the probability map of its own pass before.

The paper leaves open, and here was chosen: the channels and the number of convolutions a stage (those of V-Net, with its
residual connections), the width of the hidden fully connected layer, and that the map before the first pass is empty.

Beyond the paper, for the configuration that ships (`COMPACT`): stages 1 and 9, on the full grid, hold no convolutions but
those that lead down and up, which is where nine tenths of the time goes; group normalisation, which is the same for one crop
as for a batch, and for the first pass as for the second; and another branch, see `RegionBranch`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .lesion_classifier import LesionClassifier

STAGES = 9
BRANCHES = ("none", "paper", "regions")
SHAPE_FIGURES = 3

PAPER: dict = {
    "channels": (16, 32, 64, 128, 256),
    "convolutions": (1, 2, 3, 3, 3),
    "full_ends": True,
    "normalisation": "batch",
    "branch": "paper",
    "stages": (4, 5, 6),
    "hidden": 128,
    "opinion": None,
}
"""The published configuration, for crops of 128 x 64 x 128 voxels of 0.5 mm (x, y, z)."""

COMPACT: dict = {
    "channels": (8, 16, 32, 64, 96),
    "convolutions": (1, 1, 2, 2, 2),
    "full_ends": False,
    "normalisation": "group",
    "branch": "regions",
    "stages": (3, 4, 5, 6, 7),
    "hidden": 64,
    "dropout": 0.3,
    "opinion": {
        "stem_channels": 12,
        "stem_stride": 2,
        "channels": (16, 32, 48, 64),
        "strides": (1, 2, 2, 1),
        "dropout": 0.3,
    },
}
"""The small configuration, for crops of 48 x 32 x 48 voxels that are scaled to the lesion."""

_PUBLISHED = {"branch": "paper", "opinion": None, "iterative": True}
ABLATIONS: dict[str, dict] = {
    "VNet": {"branch": "none", "opinion": None, "iterative": False},
    "ClsNet": {**_PUBLISHED, "segmentation": False, "stages": (5,), "iterative": False},
    "CVNet": {**_PUBLISHED, "stages": (5,), "iterative": False},
    "CVNet_Iter": {**_PUBLISHED, "stages": (5,)},
    "C_MS VNet": {**_PUBLISHED, "stages": (4, 5, 6), "iterative": False},
    "C_MS VNet_Iter": {**_PUBLISHED, "stages": (4, 5, 6)},
    "stages 1-9": {**_PUBLISHED, "stages": tuple(range(1, 10)), "full_ends": True},
    "stages 2-8": {**_PUBLISHED, "stages": tuple(range(2, 9))},
    "stages 3-7": {**_PUBLISHED, "stages": tuple(range(3, 8))},
    "stages 4-6": {**_PUBLISHED, "stages": (4, 5, 6)},
    "stages 5": {**_PUBLISHED, "stages": (5,)},
}
"""The paper's ablations, by its names, as arguments that differ from those of a configuration: the single tasks, what each part adds, and the
stages that its classification branch takes (Table 4). All have the published branch, also with the widths of `COMPACT`, so that
they say what the paper asked."""


class Joint(NamedTuple):
    """What the network says of N crops.

    `outline` (N, z, y, x) logits of lesion, None without segmentation; `malignancy` (N, k) logits, one a branch (the
    classification branch first, then the second opinion), of which there may be none.
    """

    outline: torch.Tensor | None
    malignancy: torch.Tensor


def _normalisation(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm3d(channels)
    groups = next(g for g in range(max(1, channels // 8), 0, -1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


def _convolution(inputs: int, outputs: int, kind: str) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, padding=1, bias=False), _normalisation(kind, outputs), nn.ReLU(inplace=True)
    )


class _Down(nn.Sequential):
    """To half the size, by a 2 x 2 x 2 convolution of stride 2."""

    def __init__(self, inputs: int, outputs: int, kind: str) -> None:
        super().__init__(
            nn.Conv3d(inputs, outputs, 2, 2, bias=False), _normalisation(kind, outputs), nn.ReLU(inplace=True)
        )


class _Up(nn.Sequential):
    """To twice the size."""

    def __init__(self, inputs: int, outputs: int, kind: str) -> None:
        super().__init__(
            nn.ConvTranspose3d(inputs, outputs, 2, 2, bias=False), _normalisation(kind, outputs), nn.ReLU(inplace=True)
        )


class _Stage(nn.Module):
    """Some 3 x 3 x 3 convolutions, added to what came in (V-Net)."""

    def __init__(self, inputs: int, outputs: int, convolutions: int, kind: str) -> None:
        super().__init__()
        widths = [inputs, *[outputs] * convolutions]
        layers = [_convolution(a, b, kind) for a, b in zip(widths, widths[1:], strict=False)]
        layers[-1] = layers[-1][:2]  # the last ReLU comes after the sum
        self.layers = nn.Sequential(*layers)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.relu(self.layers(features) + self.shortcut(features))


class GlobalBranch(nn.Module):
    """The paper's classification branch. Input: the maps of its stages; output: (N,) logit, malignant against benign."""

    def __init__(self, channels: Sequence[int], hidden: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(sum(channels), hidden)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(hidden, 2)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        pooled = [F.normalize(m.mean((2, 3, 4)), dim=1) for m in maps]
        two = self.second(self.dropout(F.relu(self.first(torch.cat(pooled, dim=1)))))
        return two[:, 1] - two[:, 0]  # the softmax over two is the sigmoid of their difference


class Standardise(nn.Module):
    """Each of C figures (N, C) brought to mean 0 and deviation 1 by averages over what was seen in training.

    Unlike batch normalisation the averages serve in training too: a batch of four lesions says nothing of what lesions are like.
    """

    def __init__(self, figures: int, momentum: float = 0.01) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(figures))
        self.register_buffer("variance", torch.ones(figures))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, figures: torch.Tensor) -> torch.Tensor:
        figures = figures.float()
        if self.training:
            with torch.no_grad():
                self.steps += 1
                share = max(self.momentum, 1 / float(self.steps))
                self.mean.lerp_(figures.mean(0), share)
                self.variance.lerp_((figures - self.mean).square().mean(0), share)
        return ((figures - self.mean) / self.variance.clamp_min(1e-4).sqrt()).clamp(-5, 5)


class RegionBranch(nn.Module):
    """Ours: what the maps hold in the lesion, about it and under it, and its size and shape; not in the whole crop.

    Over a whole crop, most of which is no lesion, the mean says little of the lesion, and normalising its length takes away
    what there is. Here the weights of the mean are the outline (inside), what lies within a cell of it (margin), and what lies
    deeper than it in its columns (shadow or enhancement).

    Means of ReLU maps are large, and much the same from lesion to lesion: layer normalisation leaves that so, and the hidden units, all
    pushed the same way, died within five epochs (every logit the same). Hence `Standardise`, and hidden units that do not die.
    """

    def __init__(self, channels: Sequence[int], hidden: int, dropout: float) -> None:
        super().__init__()
        inputs = 3 * sum(channels)
        self.norm = Standardise(inputs)
        self.first = nn.Linear(inputs + SHAPE_FIGURES, hidden)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(hidden, 1)
        nn.init.normal_(self.second.weight, std=0.02)
        nn.init.zeros_(self.second.bias)

    def forward(self, maps: Sequence[torch.Tensor], mask: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
        """`maps` of its stages, `mask` (N, 1, z, y, x) 0 to 1, `shape` (N, 3) of `shape_figures`; returns (N,) logits."""
        pooled = []
        for features in maps:
            inside = F.adaptive_avg_pool3d(mask, features.shape[2:]).to(features.dtype)
            wide = F.max_pool3d(inside, 3, 1, 1)
            under = inside.cummax(dim=3).values * (1 - wide)
            for weight in (inside, wide - inside, under):
                total = weight.sum((2, 3, 4)) + 1e-3
                pooled.append((features * weight).sum((2, 3, 4)) / total)
        seen = torch.cat([self.norm(torch.cat(pooled, dim=1)), shape.float()], dim=1)
        return self.second(self.dropout(F.leaky_relu(self.first(seen), 0.1)))[:, 0]


def shape_figures(mask: torch.Tensor, spacing: torch.Tensor) -> torch.Tensor:
    """Size and shape of a soft mask, (N, 3), each about -1 to 1: logarithms of the volume (cm3) and of the side of a voxel
    (mm), and of the surface over that of a sphere of this volume.

    mask : (N, 1, z, y, x), 0 to 1. spacing : (N,) mm.
    """
    spacing = spacing.to(mask.dtype)
    voxels = mask.sum((1, 2, 3, 4)) + 1
    across = [mask.diff(dim=axis).abs().sum((1, 2, 3, 4)) for axis in (2, 3, 4)]
    # Steps along the axes count a plane at an angle 1.5 times on average (Cauchy).
    surface = torch.stack(across).sum(0) / 1.5 + 1
    sphere = 4.836 * voxels ** (2 / 3)
    volume = voxels * spacing**3 / 1000
    return torch.stack([volume.log() / 3, spacing.log(), (surface / sphere).log()], dim=1)


class VNet(nn.Module):
    """Crop in; outline and malignancy out.

    Parameters
    ----------
    in_channels : of the volume (1: echo).
    channels : of stages 1 to 5; stages 6 to 9 have those of 4 to 1.
    convolutions : of stages 1 to 5, mirrored too.
    full_ends : whether stages 1 and 9 hold convolutions on the full grid (paper), or only those that lead down and up.
    normalisation : "batch" (paper) or "group" (of 8 channels).
    segmentation : False leaves the decoder out (the paper's ClsNet).
    iterative : whether the network takes the probability map of the pass before.
    branch : "none", "paper" (`GlobalBranch`) or "regions" (`RegionBranch`).
    stages : 1 to 9, whose maps the branch takes (paper: 4, 5, 6). A stage that this network does not have (1 and 9 without
        `full_ends`, the decoder's without segmentation) is refused.
    hidden : width of the branch's hidden layer; `dropout` after it.
    opinion : arguments of a `LesionClassifier` that looks at volume and outline by itself, or None.

    Attributes
    ----------
    scale : each side of a crop must be a multiple of it (16).

    Raises
    ------
    ValueError : numbers that do not describe a network.
    """

    scale = 16

    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = PAPER["channels"],
        convolutions: Sequence[int] = PAPER["convolutions"],
        full_ends: bool = True,
        normalisation: str = "batch",
        segmentation: bool = True,
        iterative: bool = True,
        branch: str = "paper",
        stages: Sequence[int] = PAPER["stages"],
        hidden: int = PAPER["hidden"],
        dropout: float = 0.0,
        opinion: dict | None = None,
    ) -> None:
        super().__init__()
        if len(channels) != 5 or len(convolutions) != 5 or min(*channels, *convolutions) < 1:
            raise ValueError("`channels` and `convolutions` must have a positive number for each of stages 1 to 5.")
        if normalisation not in ("batch", "group") or branch not in BRANCHES:
            raise ValueError(f"`normalisation` is batch or group, `branch` one of {', '.join(BRANCHES)}.")
        if not segmentation and (iterative or branch == "regions" or opinion is not None):
            raise ValueError("without segmentation there is no outline to refine, to pool under or to look at.")
        first = 1 if full_ends else 2
        there = range(first, STAGES + 1 - (first - 1)) if segmentation else range(first, 6)
        if branch != "none" and (not stages or any(s not in there for s in stages)):
            raise ValueError(f"`stages` is {tuple(stages)}; this network has stages {there[0]} to {there[-1]}.")
        kind = normalisation
        self.full_ends, self.segmentation, self.iterative, self.stages = (
            full_ends,
            segmentation,
            iterative,
            tuple(stages),
        )
        inputs = in_channels + iterative
        c, n = channels, convolutions
        self.enter = _Stage(inputs, c[0], n[0], kind) if full_ends else None
        widths = [c[0] if full_ends else inputs, *c[1:]]
        self.down = nn.ModuleList(_Down(widths[i], c[i + 1], kind) for i in range(4))
        self.encoder = nn.ModuleList(_Stage(c[i], c[i], n[i], kind) for i in range(1, 5))
        if segmentation:
            levels = range(3, 0 if not full_ends else -1, -1)  # of the encoder, from 0, that are come up to
            self.up = nn.ModuleList(_Up(c[i + 1], c[i], kind) for i in levels)
            self.decoder = nn.ModuleList(_Stage(2 * c[i], c[i], n[i], kind) for i in levels)
            self.leave = nn.Conv3d(c[0], 1, 1) if full_ends else nn.ConvTranspose3d(c[1], 1, 2, 2)
        self.branch = None
        if branch != "none":
            kinds = {"paper": GlobalBranch, "regions": RegionBranch}
            self.branch = kinds[branch]([c[min(s, 10 - s) - 1] for s in stages], hidden, dropout)
        self.regions = branch == "regions"
        self.opinion = None
        if opinion is not None:
            self.opinion = LesionClassifier(in_channels=in_channels + 1, sizes=SHAPE_FIGURES, **opinion)
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv3d) and not name.startswith("opinion"):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if self.segmentation:
            nn.init.normal_(self.leave.weight, std=0.02)
            nn.init.constant_(self.leave.bias, -2.0)  # a lesion is a tenth of a crop

    @property
    def answers(self) -> int:
        """How many opinions on malignancy there are."""
        return (self.branch is not None) + (self.opinion is not None)

    def forward(
        self,
        volume: torch.Tensor,
        probability: torch.Tensor | None = None,
        spacing: torch.Tensor | None = None,
        opinion: bool = True,
    ) -> Joint:
        """One pass.

        Parameters
        ----------
        volume : (N, in_channels, z, y, x), mean 0, deviation 1.
        probability : (N, 1, z, y, x) of the pass before; None: before the first (empty).
        spacing : (N,) mm, the side of a voxel; None: 1.
        opinion : whether to ask for the second opinion, which is worth its time after the last pass only.
        """
        features = volume
        if self.iterative:
            if probability is None:
                probability = volume.new_zeros(len(volume), 1, *volume.shape[2:])
            features = torch.cat([volume, probability.to(volume.dtype)], dim=1)
        maps: dict[int, torch.Tensor] = {}
        if self.enter is not None:
            features = maps[1] = self.enter(features)
        for number, (down, stage) in enumerate(zip(self.down, self.encoder, strict=True), start=2):
            features = maps[number] = stage(down(features))
        outline = None
        if self.segmentation:
            for number, (up, stage) in enumerate(zip(self.up, self.decoder, strict=True), start=6):
                features = maps[number] = stage(torch.cat([up(features), maps[10 - number]], dim=1))
            outline = self.leave(features)
        answers = []
        shape = mask = None
        if outline is not None and (self.regions or self.opinion is not None):
            mask = torch.sigmoid(outline.detach()).float()
            shape = shape_figures(mask, volume.new_ones(len(volume)) if spacing is None else spacing)
        if self.branch is not None:
            taken = [maps[s] for s in self.stages]
            answers.append(self.branch(taken, mask, shape) if self.regions else self.branch(taken))
        if self.opinion is not None and opinion:
            answers.append(self.opinion(torch.cat([volume, mask.to(volume.dtype)], dim=1), shape))
        malignancy = torch.stack(answers, dim=1) if answers else volume.new_zeros(len(volume), 0)
        return Joint(None if outline is None else outline[:, 0], malignancy)


def passes(network: VNet, volume: torch.Tensor, spacing: torch.Tensor | None = None, iterations: int = 2) -> Joint:
    """What the network says after `iterations` passes, each given the map of the one before (Algorithm 1, at inference).

    `iterations` 0 and 1 are one pass; a network that is not iterative makes one in any case.
    """
    number = max(1, iterations) if network.iterative else 1
    probability = None
    for step in range(number):
        said = network(volume, probability, spacing, opinion=step + 1 == number)
        if said.outline is not None:
            probability = torch.sigmoid(said.outline)[:, None]
    return said
