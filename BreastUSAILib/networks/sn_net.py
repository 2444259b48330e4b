"""Sn-Net: is there a solid nodule (Qi et al., Medical Image Analysis 2019;52:185-198, table 2).

The published configuration is Inception-v3 with two pathways; the compact one as Mt-Net's. The pathways join after block 3d, at 768 x
17 x 17. We count the four blocks of Inception-v3 that keep 17 x 17 as 3a to 3d, so that the two halves meet before it shrinks, as in Mt-Net.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from .inception import InceptionV3End, InceptionV3Start
from .two_pathway import EfficientNetHalves, Halves, MapPathway, TwoPathway, is_efficientnet

PAPER = {
    "in_channels": 1,
    "trunk": "inception-v3",
    "outputs": {"solid": 2},
    "dropout": 0.2,
}
COMPACT = {
    "in_channels": 1,
    "trunk": "efficientnet-lite0",
    "outputs": {"solid": 2, "malignancy": 2},
    "dropout": 0.2,
}


class SnNet(TwoPathway):
    """Sn-Net; see `two_pathway.TwoPathway` for input and output.

    Parameters
    ----------
    in_channels : of the image.
    trunk : "inception-v3" (paper) or an EfficientNet-Lite of `efficientnet_lite.SCALES`.
    outputs, ordered, dropout, map_weight : see `TwoPathway`; "solid" must be among the outputs.
    blocks : how many of Inception-v3's four blocks at 17 x 17 come before the pathways join.
    width : factor of Inception-v3's channels.
    """

    def __init__(
        self,
        in_channels: int = 1,
        trunk: str = PAPER["trunk"],
        outputs: Mapping[str, int] = PAPER["outputs"],
        ordered: bool = False,
        blocks: int = 4,
        width: float = 1.0,
        dropout: float = PAPER["dropout"],
        map_weight: float = 1.0,
    ) -> None:
        pathway: nn.Module
        if is_efficientnet(trunk):
            halves: nn.Module = EfficientNetHalves(in_channels, trunk)
            pathway = MapPathway(halves.channels[0])
        elif trunk == "inception-v3":
            start = InceptionV3Start(in_channels, blocks, width)
            halves = Halves(start, InceptionV3End(start.channels, blocks, width))
            pathway = InceptionV3Start(1, blocks, width)
        else:
            raise ValueError(f"trunk {trunk!r} is unknown; choose inception-v3 or an EfficientNet-Lite.")
        super().__init__(halves, pathway, "solid", outputs, ordered, dropout, map_weight)
