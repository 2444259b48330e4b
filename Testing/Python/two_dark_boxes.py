"""The volume that the cases of panels search: bright, with two dark boxes."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import slicer

from BreastUSAILib import mrml

SPACING = (0.8, 0.9, 1.1)


def volume(size=(40, 20, 30), name="case 1", known=True):
    """A volume node, bright with two dark boxes, the first the larger: voxels 5 to 14, 4 to 11, 6 to 17, and 25 to 29, 5 to
    9, 20 to 24 along x, y, z."""
    voxels = np.full(size[::-1], 200, np.uint8)
    voxels[6:18, 4:12, 5:15] = 20
    voxels[20:25, 5:10, 25:30] = 20
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(SPACING if known else (1.0, 1.0, 1.0))
    return mrml.add_volume(slicer.mrmlScene, image, name, known)


def center(first, last):
    """World RAS of the middle of some voxels of `volume`."""
    lps = [(a + b) / 2 * s for a, b, s in zip(first, last, SPACING, strict=True)]
    return [-lps[0], -lps[1], lps[2]]


FIRST, SECOND = center((5, 4, 6), (14, 11, 17)), center((25, 5, 20), (29, 9, 24))
