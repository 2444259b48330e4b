"""Takes the place of ``python -m BreastUSAILib.cli`` in tests of the module: same arguments, same progress, same files.

It outlines what is darker than half the mean, which is enough to see nodes come and go; ``detect`` finds two boxes
there, ``heatmap`` the same with a map, and so does ``run`` in volumes, graded, and outlined with --segment-3d-model; ``segment`` outlines what is dark in each box or
about each point, ``grade`` grades what it is given, or what is dark. An option chooses a behaviour, the threshold or else the name of the model's folder: 0.11 crashes, 0.12 fails, 0.13
goes on until it is ended, 0.14 finds nothing.
"""

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path


def option(name, default=None):
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else default


def progress(fraction, message):
    print(json.dumps({"progress": fraction, "message": message}), flush=True)


detecting = sys.argv[1] in ("detect", "heatmap")
grading = sys.argv[1] == "grade"
models = Path(option("--model") or option("--detect-model") or option("--mtnet") or "").name
behaviour = models if detecting else option("--threshold") or models
progress(0.1, "loading the model")
print("arguments:", " ".join(a for a in sys.argv[1:] if os.sep + "BreastUSAI-" not in a), flush=True)
print("Results:", option("--output"), flush=True)
if behaviour == "0.11":
    os.kill(os.getpid(), signal.SIGSEGV)
if behaviour == "0.12":
    raise SystemExit("the model is broken; choose another one.")
while behaviour == "0.13":
    time.sleep(0.1)

# Only now: the ways to end above need none of it, and start faster.
import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
from standin_findings import worked_up  # noqa: E402

from BreastUSAILib.files import write_study  # noqa: E402
from BreastUSAILib.findings import Box, Finding, ImageInfo, Study  # noqa: E402
from BreastUSAILib.image import box_of_mask, read_image  # noqa: E402

loaded = read_image(sys.argv[2])
if detecting:
    dark = loaded.image < 0.5 * float(sitk.GetArrayViewFromImage(loaded.image).mean())
    pieces = sitk.RelabelComponent(sitk.ConnectedComponent(dark), sortByObjectSize=True)
    findings = tuple(
        Finding(f"L{i}", box_of_mask(pieces == i), score, malignancy=0.2 * i, models={"detect": "stand-in"})
        for i, score in ((1, 0.9), (2, 0.25))
    )
    info = ImageInfo.of(loaded.image, str(loaded.path), loaded.spacing_known)
    study = Study(info, () if behaviour == "0.14" else findings, provenance={"notes": ["searched in one piece"]})
    if sys.argv[1] == "heatmap":
        from standin_heat import heated

        study = heated(study, dark)
    write_study(study, Path(option("--output")) / loaded.path.stem)
    progress(1.0, "done")
    raise SystemExit(0)
if grading:
    from standin_grades import graded

    from BreastUSAILib.files import read_study

    given = option("--findings")
    study = graded(loaded, read_study(Path(given)) if given else None, nothing=behaviour == "0.14")
    write_study(study, Path(option("--output")) / loaded.path.stem)
    progress(1.0, "done")
    raise SystemExit(0)
if sys.argv[1] == "segment":
    dark = loaded.image < 0.5 * float(sitk.GetArrayViewFromImage(loaded.image).mean())
    pieces = sitk.ConnectedComponent(dark)
    given = option("--findings")
    findings = list(Study.from_json(Path(given).read_text()).findings) if given else []
    for argument in sys.argv:
        name, _, numbers = argument.partition("=")
        if name in ("--box", "--point"):
            center, size = (numbers.split(",") + ["9", "9", "9"])[:3], (numbers.split(",") + ["9", "9", "9"])[3:6]
            box = Box(tuple(map(float, center)), tuple(map(float, size)))
            findings.append(Finding(f"L{len(findings) + 1}", box, 0.0))
    for index, finding in enumerate(findings):
        at = loaded.image.TransformPhysicalPointToIndex(finding.box.center)
        if behaviour == "0.14" or not pieces[at]:
            findings[index] = replace(finding, notes=("no lesion was outlined in the box",))
            continue
        mask = sitk.Cast(pieces == pieces[at], sitk.sitkUInt8)
        volume = int(sitk.GetArrayViewFromImage(mask).sum()) * float(np.prod(mask.GetSpacing())) / 1000
        box = box_of_mask(mask)
        findings[index] = replace(finding, box=box, mask=mask, label=index + 1, measurements={"volume_ml": volume})
    study = Study(ImageInfo.of(loaded.image, str(loaded.path), True), tuple(findings), provenance={"notes": []})
    write_study(study, Path(option("--output")) / loaded.path.stem)
    progress(1.0, "done")
    raise SystemExit(0)
study = worked_up(loaded, outlined=bool(option("--segment-3d-model")), nothing=behaviour == "0.14")
write_study(study, Path(option("--output")) / loaded.path.stem)
progress(1.0, "done")
