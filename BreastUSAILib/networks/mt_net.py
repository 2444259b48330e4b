"""Mt-Net: is there a malignant tumour (Qi et al., Medical Image Analysis 2019;52:185-198, table 1).

The published configuration is Inception-ResNet-v2 with two pathways. The compact one keeps the pathways, their fusion and the
activation maps on a trunk that is small enough for a CPU and knows ImageNet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from .inception import InceptionResNetEnd, InceptionResNetStart
from .two_pathway import EfficientNetHalves, Halves, MapPathway, TwoPathway, is_efficientnet

PAPER = {
    "in_channels": 1,
    "trunk": "inception-resnet-v2",
    "outputs": {"malignancy": 2},
    "blocks": (10, 20, 9),
    "scales": (0.17, 0.10, 0.20),
    "dropout": 0.2,
}
COMPACT = {
    "in_channels": 1,
    "trunk": "efficientnet-lite0",
    "outputs": {"malignancy": 2, "birads": 6},
    "ordered": True,
    "dropout": 0.2,
}


class MtNet(TwoPathway):
    """Mt-Net; see `two_pathway.TwoPathway` for input and output.

    Parameters
    ----------
    in_channels : of the image.
    trunk : "inception-resnet-v2" (paper) or an EfficientNet-Lite of `efficientnet_lite.SCALES`.
    outputs, ordered, dropout, map_weight : see `TwoPathway`; "malignancy" must be among the outputs.
    blocks : of Inception-ResNet-v2 at 35 x 35, 17 x 17 and 8 x 8 (one more without scale follows).
    scales : of their residuals.
    width : factor of Inception-ResNet-v2's channels.
    """

    def __init__(
        self,
        in_channels: int = 1,
        trunk: str = PAPER["trunk"],
        outputs: Mapping[str, int] = PAPER["outputs"],
        ordered: bool = False,
        blocks: Sequence[int] = PAPER["blocks"],
        scales: Sequence[float] = PAPER["scales"],
        width: float = 1.0,
        dropout: float = PAPER["dropout"],
        map_weight: float = 1.0,
    ) -> None:
        pathway: nn.Module
        if is_efficientnet(trunk):
            halves: nn.Module = EfficientNetHalves(in_channels, trunk)
            pathway = MapPathway(halves.channels[0])
        elif trunk == "inception-resnet-v2":
            start = InceptionResNetStart(in_channels, blocks[:2], scales[:2], width)
            halves = Halves(start, InceptionResNetEnd(start.channels, blocks[2], scales[2], width))
            pathway = InceptionResNetStart(1, blocks[:2], scales[:2], width)
        else:
            raise ValueError(f"trunk {trunk!r} is unknown; choose inception-resnet-v2 or an EfficientNet-Lite.")
        super().__init__(halves, pathway, "malignancy", outputs, ordered, dropout, map_weight)
