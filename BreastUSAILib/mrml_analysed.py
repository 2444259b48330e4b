"""Whether an image in a scene still shows the pixels that were analysed.

A node may show others later, in the same size: another frame of a sequence, a filter's result in place, a file that was read again. An outline
would then be measured on pixels, and shown over a picture, that no model looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import SimpleITK as sitk

from .errors import DataError
from .grid import is_left_handed
from .identity import pixels_digest
from .mrml_names import ANALYSED
from .mrml_volumes import image_for, image_from_volume

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode

    from .findings import Study

# From every file in which a child process gets an image; others may be converted on the way.
_READ_AS_THEY_ARE = (sitk.sitkUInt8, sitk.sitkUInt16)


def keep_analysed(shown: Any, study: Study, volume_node: vtkMRMLScalarVolumeNode) -> None:
    """Keep with what shows a study a checksum of the pixels that were analysed. Takes some 0.03 s for 400 x 104 x 400 voxels.

    Those are the pixels that the image shows now, unless the study was made from a file that had others: the node went on to another frame
    meanwhile.
    """
    image = image_from_volume(volume_node)
    digest, theirs = _digest(image), study.provenance.get("input", {}).get("pixels_sha256")
    if (
        theirs
        and theirs != digest
        and image.GetPixelID() in _READ_AS_THEY_ARE
        and not _is_of(theirs, image, study, volume_node)
    ):
        digest = theirs
    shown.SetAttribute(ANALYSED, digest)


def check_analysed(shown: Any, kind: str, volume_node: vtkMRMLScalarVolumeNode, study: Study) -> None:
    """Refuse a result whose image shows other pixels than were analysed, see `shows_other_pixels`.

    Parameters
    ----------
    shown, kind : the result's node, and what it is, in words.
    study : the result's, on the image as it is now.

    Raises
    ------
    DataError : they are others.
    """
    if shows_other_pixels(shown, volume_node, study):
        raise DataError(
            f"the image {volume_node.GetName()} shows other pixels than those in which the {kind} {shown.GetName()} was found (another frame of a "
            "sequence, say, or a filter was applied); show those again, or repeat the analysis."
        )


def shows_other_pixels(shown: Any, volume_node: vtkMRMLScalarVolumeNode, study: Study) -> bool:
    """Whether an image shows other pixels than those in which a result was found. Scenes of earlier versions keep no checksum, and are believed.
    Takes as long as `keep_analysed`, and twice as long where it does.

    Parameters
    ----------
    shown : the result's node.
    study : the result's.

    Raises
    ------
    ImageError : the image's node has no voxels.
    """
    analysed, image = shown.GetAttribute(ANALYSED), image_from_volume(volume_node)
    return bool(analysed) and analysed != _digest(image) and not _is_of(analysed, image, study, volume_node)


def _is_of(digest: str, image: sitk.Image, study: Study, volume_node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a file's `pixels_digest` is of an image, with its slices in either order, as Slicer reverses those of left-handed files when it reads
    them, and other readers do not; or, of a 2D study, of its one slice as a 2D image."""
    if study.image.dimension == 2:
        return pixels_digest(image_for(study.image, volume_node)) == digest
    return digest in (pixels_digest(image), pixels_digest(_slices_reversed(image)))


def _digest(image: sitk.Image) -> str:
    """`pixels_digest` of an image with its slices in the order that makes its axes right-handed: Slicer reverses those of left-handed images when it
    reads them from a file."""
    return pixels_digest(_slices_reversed(image) if is_left_handed(image) else image)


def _slices_reversed(image: sitk.Image) -> sitk.Image:
    """The pixels in the other order of slices, wherever they lie. Quicker than SimpleITK's flip."""
    voxels = sitk.GetArrayViewFromImage(image)[::-1]
    return sitk.GetImageFromArray(voxels, isVector=image.GetNumberOfComponentsPerPixel() > 1)
