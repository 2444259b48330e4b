"""Makes BreastUSAILib/sample_data: `python Testing/make_samples.py`. The same files come out on every machine but for compression.

The two volumes are one synthetic breast a year apart: a lesion that grew from 0.5 to 1.1 ml, one that stayed, one that is new. Their
seed belongs to no split: nothing is trained or measured on them.
"""

import hashlib
import io
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import SimpleITK as sitk
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from BreastUSAILib import pictures  # noqa: E402
from BreastUSAILib.atomic import write_bytes, write_text  # noqa: E402
from BreastUSAILib.findings import ImageInfo, Study  # noqa: E402
from BreastUSAILib.image import read_image, write_image  # noqa: E402
from BreastUSAILib.navigator import navigate, paint  # noqa: E402
from BreastUSAILib.phantom.grids import PhantomGrid  # noqa: E402
from BreastUSAILib.phantom.spec import LesionRequest, PhantomSpec  # noqa: E402
from BreastUSAILib.phantom.volume import generate  # noqa: E402
from BreastUSAILib.sample_data import _CATALOG, FILES  # noqa: E402

SEED = 3_000_000_202
GRID = PhantomGrid((200, 72, 180), (0.5, 0.6, 0.55))
GROWING = LesionRequest(
    malignant=True,
    centre=(30, 15, 68),
    descriptors={
        "shape": "irregular", "margin": "microlobulated", "orientation": "parallel", "echo_pattern": "hypoechoic",
        "posterior_features": "shadowing", "calcifications": "none", "halo": "absent",
    },
)  # fmt: skip
OVAL = {"shape": "oval", "margin": "circumscribed", "orientation": "parallel", "echo_pattern": "hypoechoic"}
CYST = {"shape": "round", "margin": "circumscribed", "echo_pattern": "anechoic"}
SMOOTH = {"posterior_features": "enhancement", "calcifications": "none", "halo": "absent"}
STEADY = LesionRequest(malignant=False, volume_ml=0.9, centre=(68, 13, 40), descriptors={**OVAL, **SMOOTH})
NEW = LesionRequest(malignant=False, volume_ml=0.35, centre=(75, 17, 75), descriptors={**CYST, **SMOOTH})
SPECS = {
    "earlier": PhantomSpec(GRID, (replace(GROWING, volume_ml=0.5), STEADY), "b"),
    "later": PhantomSpec(
        GRID, (replace(GROWING, volume_ml=1.1), STEADY, NEW), "b", acquisition={"gain_db": 1.0, "frequency_mhz": 12.0}
    ),
}
SYNTHETIC = "Synthetic, made by BreastUSAI's phantom generator; no patient."


def main() -> None:
    entries = [image()]
    for when, spec in SPECS.items():
        phantom = generate(SEED, spec)
        name = f"abus-phantom-{when}"
        write_image(phantom.image, FILES / f"{name}.nrrd")
        write_image(phantom.labels, FILES / f"{name}-lesions.nrrd")
        picture = paint(navigate(phantom.image, Study(ImageInfo.of(phantom.image, name)), longest=256), letters=False)
        write_bytes(FILES / f"{name}.png", png(Image.fromarray(picture)))
        lesions = ", ".join(f"{lesion.volume_ml:.2f} ml" for lesion in phantom.lesions)
        entries.append(
            {
                "id": name,
                "title": f"ABUS phantom, {when} examination",
                "description": f"A piece of an ABUS volume, {' x '.join(f'{e:.0f}' for e in GRID.extent)} mm, with {len(phantom.lesions)} lesions ({lesions}). {SYNTHETIC}",
                "file": f"{name}.nrrd",
                "sha256": sha256(FILES / f"{name}.nrrd"),
                "thumbnail": f"{name}.png",
                "truth": f"{name}-lesions.nrrd",
                "truth_sha256": sha256(FILES / f"{name}-lesions.nrrd"),
                "licence": "Apache-2.0",
            }
        )
    write_text(_CATALOG, json.dumps({"samples": entries}, indent=1, ensure_ascii=False) + "\n")


def image() -> dict[str, str]:
    source = ROOT / "Testing" / "Data" / "images" / "case067.nrrd"
    mask = ROOT / "Testing" / "Data" / "masks" / "case067.png"
    shutil.copyfile(source, FILES / "breast-2d.nrrd")
    labels = sitk.Cast(read_image(mask, allow_constant=True).image > 0, sitk.sitkUInt8)
    labels.CopyInformation(read_image(source).image)
    write_image(labels, FILES / "breast-2d-lesions.nrrd")
    pixels = pictures.to_grey(sitk.GetArrayFromImage(read_image(source).image))
    small = Image.fromarray(pixels)
    small.thumbnail((256, 256))
    write_bytes(FILES / "breast-2d.png", png(small))
    return {
        "id": "breast-2d",
        "title": "Breast ultrasound image",
        "description": "A real 2D image with one lesion, case067 of BrEaST-Lesions-USG; pixels unchanged.",
        "file": "breast-2d.nrrd",
        "sha256": sha256(FILES / "breast-2d.nrrd"),
        "thumbnail": "breast-2d.png",
        "truth": "breast-2d-lesions.nrrd",
        "truth_sha256": sha256(FILES / "breast-2d-lesions.nrrd"),
        "licence": "CC BY 4.0",
        "cite": "Pawlowska A, et al. Curated benchmark dataset for ultrasound based breast lesion analysis. Sci Data 2024;11:148. doi:10.1038/s41597-024-02984-z",
    }


def png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.convert("L").save(stream, "PNG", optimize=True)
    return stream.getvalue()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
