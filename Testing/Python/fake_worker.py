"""Stands in for the model in tests of runs. In a file of its own because each worker process imports it."""

import importlib
import os
import shutil
import signal
import time

import SimpleITK as sitk

from BreastUSAILib.errors import ImageError, ModelError, OutputError
from BreastUSAILib.findings import Finding, ImageInfo, Study
from BreastUSAILib.grid import box_of_mask
from BreastUSAILib.identity import identity
from BreastUSAILib.models.engine_names import ENGINE_VARIABLE
from BreastUSAILib.run_input import Outcome, failure_sentence, file_stamp, move_results, write_results


class FakeWorker:
    """Finds what is brighter than 50; does what the file's name tells it to."""

    def __init__(self, options):
        if options.workup.model == "missing":
            raise ModelError("Model 'missing' is unknown.")
        self.options = options
        for module in ("files", "report", "pictures", "volume_report"):  # not at the cost of the first task's time
            importlib.import_module(f"BreastUSAILib.{module}")
        import jinja2  # noqa: F401

    def __call__(self, task, progress):
        name = task.source.path.name
        progress(0.5, "looking")
        try:
            if "kill" in name:
                os.kill(os.getpid(), signal.SIGKILL)
            if "interrupt" in name and not (self.options.output / "go-on").exists():
                raise KeyboardInterrupt
            if "hang" in name and not (self.options.output / "go-on").exists():
                time.sleep(600)
            if "imageerror" in name:
                raise ImageError(f"{task.source.path} is broken; get another one.")
            if "bug" in name:
                raise ValueError("a bug\nof two lines")
            stamp = file_stamp(task.source.path, task.source.files)
            image = sitk.ReadImage(str(task.source.path))
            mask = sitk.Cast(image > 50, sitk.sitkUInt8)
            finding = Finding("L1", box_of_mask(mask), 0.9, mask=mask, label=1, measurements={"area_px2": 80.0})
            found = () if "none" in name else (finding,)
            threads = os.environ.get("OMP_NUM_THREADS", "")
            options = {**self.options.of_results(), "threads": threads, "engine": os.environ.get(ENGINE_VARIABLE, "")}
            models = [{"id": "fake", "version": "1", "sha256": self.options.workup.model, "task": "segment"}]
            provenance = {"run": task.run, "options": options, "models": models if self.options.workup.model else []}
            provenance["input"] = {**identity(task.source.path, task.source.files), "stamp": stamp}
            study = Study(ImageInfo.of(image, str(task.source.path), False), found, provenance=provenance)
            write_results(study, image, task.temporary, scene=False)
            if "half" in name:
                raise OutputError(f"{task.temporary}/scene.mrb cannot be written: the disk is full.")
            move_results(task.temporary, task.folder)
        except Exception as error:
            return Outcome(failure_sentence(task, error))
        finally:
            shutil.rmtree(task.temporary, ignore_errors=True)
        return Outcome()


def slow_square(seconds):
    def work(task, progress):
        progress(0.1, str(os.getpid()))
        time.sleep(seconds)
        return task * task

    return work
