"""What the Workup module does with nodes: images in, results in the scene, rows of a list, reports.

Imported by the Slicer modules only.
"""

from __future__ import annotations

import logging

from slicer.i18n import tr as _

from . import child_detection, child_workup, mrml, mrml_workup
from .errors import ImageError
from .slicer_image_logic import ImageOrVolumeLogic
from .slicer_report_export import start_export
from .slicer_workup_rows import rows


class WorkupLogic(ImageOrVolumeLogic):
    """From nodes to the library and back. No GUI: it runs in a Slicer without window as well.

    Parameters
    ----------
    runner : works up a loaded image in line; `workup.run_workup` by default.
    childWorkup : makes the child process of one image; `child_workup.ChildWorkup` by default.
    """

    task = "segment"
    noImage = _("Choose an ultrasound image or volume.")

    def __init__(self, runner=None, childWorkup=None):
        ImageOrVolumeLogic.__init__(self)
        self._runner = runner
        self._childWorkup = childWorkup or child_workup.ChildWorkup

    def images(self, parameterNode):
        """The chosen image, then the further views."""
        chosen = [parameterNode.inputVolume, *mrml_workup.further_images(parameterNode.parameterNode)]
        return [v for i, v in enumerate(chosen) if v is not None and v not in chosen[:i]]

    def options(self, parameterNode):
        """The workup's options that the parameters mean."""
        from .workup import DetectionOptions, GradingOptions, HeatmapOptions, SegmentationOptions, WorkupOptions

        return WorkupOptions(
            model=parameterNode.modelFolder or parameterNode.model,
            device=parameterNode.device.value,
            lesions="all" if parameterNode.allLesions else "central",
            detection=DetectionOptions(model=parameterNode.detectFolder, classifier=parameterNode.classifierFolder),
            segmentation=SegmentationOptions(model=parameterNode.outlineFolder),
            grading=GradingOptions(
                gcnn=parameterNode.gcnnFolder or None,
                mtnet=parameterNode.mtnetFolder or None,
                snnet=parameterNode.snnetFolder or None,
            ),
            heatmap=HeatmapOptions(model=parameterNode.heatmapFolder) if parameterNode.mapVolumes else None,
        )

    # --- may it run

    def reasonAgainst(self, volume, parameterNode=None):
        reason = ImageOrVolumeLogic.reasonAgainst(self, volume, parameterNode)
        if reason or parameterNode is None:
            return reason
        images = self.images(parameterNode)
        for image in images:
            reason = ImageOrVolumeLogic.reasonAgainst(self, image, parameterNode)
            if not reason and self.isVolume(image):
                reason = self.reasonAgainstNoModel(
                    "detect", parameterNode.detectFolder, _("Advanced, Detection in volumes")
                )
            if reason:
                return reason
        return ""

    # --- the analysis

    def pixels(self, volume, pixelSpacing=None):
        """An image as the library takes it. ImageError when it cannot be worked up.

        :param pixelSpacing: mm, taken instead of the own one of a 2D image, which stays as it is; 0: unknown.
        """
        reason = self.reasonAgainst(volume)
        if reason:
            raise ImageError(reason)
        image = mrml.image_from_volume(volume)
        if self.isVolume(volume):
            return child_detection.AbusPixels(image, volume.GetName(), mrml.volume_spacing_known(volume))
        pixels = child_workup.VolumePixels(image, volume.GetName(), mrml.spacing_known(volume))
        return pixels if pixelSpacing is None else pixels.with_spacing(pixelSpacing)

    def start(self, volumes, options, onProgress=None, onLog=None, pixelSpacings=None):
        """Begin the workup of some images, one after the other, each in a child process; returns a `child_queue.ChildQueue`.

        :param onProgress: called with a fraction, what is being done, and the time left in words.
        :param pixelSpacings: id of a 2D image -> see `pixels`; give the same to `show`.
        """
        from .child_queue import ChildQueue

        def starter(volume):
            pixels = self.pixels(volume, (pixelSpacings or {}).get(volume.GetID()))  # nodes are read here and now
            return pixels.name, lambda progress, log: self._childWorkup(pixels, options, progress, log)

        return ChildQueue([starter(volume) for volume in volumes], onProgress, onLog)

    def process(self, volume, options=None, progress=None):
        """Work up an image in line and show what was found; returns the result's node.

        :param options: `workup.WorkupOptions`.
        :param progress: called with a fraction (0 to 1) and a message.
        :raises BreastUSAIError: one sentence for the user; the scene was not changed then.
        """
        from .workup import WorkupOptions, run_workup

        loaded = child_workup.load_input(self.pixels(volume))
        return self.show((self._runner or run_workup)(loaded, options or WorkupOptions(), progress), volume)

    def show(self, study, volume, pixelSpacing=None, keys=None, crops=None):
        """The nodes of a study, in place of the workup that the image had; returns the result's node; a word to the log."""
        shown = mrml_workup.show_workup(volume.GetScene(), study, volume, pixelSpacing, keys, crops)
        logging.info("BreastUSAI Workup, %s: %s", volume.GetName(), study.summary)
        return shown

    def summary(self, outcomes):
        """What was found, in words, image by image where there are several."""
        from .workup import trained_on_phantoms

        done = [o for o in outcomes if o.study is not None]
        said = [o.study.summary if len(outcomes) == 1 else f"{o.name}: {o.study.summary}" for o in done]
        if any(trained_on_phantoms(o.study) for o in done):
            said.append(_("A model was trained on phantoms, not on patients."))
        notes = dict.fromkeys(note for o in done for note in o.study.provenance.get("notes", ()))
        said += [f"{note[:1].upper()}{note[1:].rstrip('.')}." for note in notes]
        return " ".join(said)

    # --- the findings

    def results(self, parameterNode):
        """The result's nodes of the chosen images, of those that have one."""
        found = (mrml_workup.workup_of(volume) for volume in self.images(parameterNode))
        return [node for node in found if node is not None]

    def rows(self, parameterNode):
        """The findings of the chosen images as rows of the list, and what cannot be told; see `slicer_workup_rows.rows`."""
        return rows(self.results(parameterNode), parameterNode)

    def goTo(self, shown, finding):
        """Let all views look at a finding, which stands out; whether they showed another image before."""
        image = mrml_workup.image_of(shown)
        changed = image is not None and mrml_workup.show_image(image)
        mrml_workup.go_to(shown, finding)
        mrml_workup.highlight(shown, finding)
        return changed

    def startExport(self, parameterNode, folder):
        """Begin to write the report of each chosen image that has a result; see `slicer_report_export.start_export`."""
        return start_export(self.results(parameterNode), parameterNode, folder)
