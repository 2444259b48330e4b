"""A tiny made data set with every label that grading reads, and grading networks as small as they can be."""

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image

from BreastUSAILib.models.folder import save_model

SMALL_MT = {
    "trunk": "inception-resnet-v2", "blocks": [1, 1, 1], "width": 0.03, "outputs": {"malignancy": 2, "birads": 6}, "ordered": True,
}  # fmt: skip
SMALL_SN = {"trunk": "inception-v3", "width": 0.03, "outputs": {"solid": 2, "malignancy": 2}}
SMALL_G = {
    "in_channels": 2, "trunk": "g-cnn", "channels": [2, 2, 4, 4, 4], "outputs": {"birads": 6, "malignancy": 2, "shape": 3, "margin": 2},
    "ordered": True, "pooled": 2, "widths": [8],
}  # fmt: skip
SMALL = {"gcnn": ("g_cnn.GCnn", SMALL_G), "mtnet": ("mt_net.MtNet", SMALL_MT), "snnet": ("sn_net.SnNet", SMALL_SN)}
SIZE = 80


def grade_folder(folder: Path, system: str, seed: int = 1, size: int = SIZE, **postprocessing) -> Path:
    """A model of the system that was never trained. From a `size` of 139 pixels on its activation maps have more than one place."""
    import importlib

    import torch

    torch.manual_seed(seed)
    network, arguments = SMALL[system]
    module, name = network.split(".")
    made = getattr(importlib.import_module(f"BreastUSAILib.networks.{module}"), name)(**arguments)
    config = {
        "id": f"small-{system}", "version": "1", "task": f"grade-{system}", "network": network, "arguments": arguments,
        "preprocessing": {"dimension": 2, "size": size, "view": "lesion", "margin": 1.5, "mask": system == "gcnn"},
        "postprocessing": postprocessing, "trained_on": "nothing",
    }  # fmt: skip
    return save_model(folder, made, json.loads(json.dumps(config)))


def image_of(malignant: bool, random: np.random.Generator, shape=(60, 72)) -> tuple[np.ndarray, np.ndarray]:
    """Speckle with a lesion: a wide, even ellipse, or a high, darker one with a rough border; pixels and mask."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    cy, cx = shape[0] / 2 + random.uniform(-5, 5), shape[1] / 2 + random.uniform(-8, 8)
    a, b = (9, 15) if malignant else (15, 9)
    angle = np.arctan2(y - cy, x - cx)
    rough = 1 + (0.25 * np.sin(7 * angle + random.uniform(0, 6)) if malignant else 0)
    mask = ((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < rough**2
    pixels = random.normal(130, 25, shape)
    pixels[mask] = random.normal(30 if malignant else 75, 12, int(mask.sum()))
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


def data_folder(folder: Path, images: int = 20, seed: int = 0) -> Path:
    """`images` images over the five folds, half of them malignant, with labels in BrEaST's columns and one normal image."""
    random = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    rows = []
    for i in range(images):
        malignant = (i // 5) % 2 == 1
        pixels, mask = image_of(malignant, random)
        Image.fromarray(pixels).save(folder / f"images/i{i}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"masks/i{i}.png")
        rows.append(
            {
                "id": f"i{i}", "file": f"images/i{i}.png", "mask": f"masks/i{i}.png", "class": "malignant" if malignant else "benign",
                "group": f"g{i}", "fold": i % 5, "birads": ("4", "4c", "5")[i % 3] if malignant else ("2", "3", "4a")[i % 3],
                "shape": "irregular" if malignant else "oval",
                "margin": "not circumscribed - angular&indistinct" if malignant else "circumscribed",
                "echogenicity": "hypoechoic" if malignant else "anechoic", "posterior_features": "no", "halo": "no",
                "calcifications": "in a mass" if malignant else "no",
                "diagnosis": "Invasive carcinoma of no special type (NST)" if malignant else ("not applicable", "Fibroadenoma")[i % 2],
            }
        )  # fmt: skip
    Image.fromarray(image_of(False, random)[0]).save(folder / "images/n.png")
    rows.append(
        {
            **dict.fromkeys(rows[0], ""),
            "id": "n",
            "file": "images/n.png",
            "class": "normal",
            "group": "n",
            "fold": 0,
            "birads": "1",
        }
    )
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder
