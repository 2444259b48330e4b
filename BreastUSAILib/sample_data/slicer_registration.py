"""The sample images in 3D Slicer's Sample Data module, section BreastUSAI.

They are loaded from the extension's own files, so that no network is needed; Sample Data copies them into its cache and compares their
SHA-256. A module calls `register` when the application has started (the module Sample Data may be loaded after it)::

    slicer.app.connect("startupCompleted()", register)
"""

from __future__ import annotations

from . import samples

CATEGORY = "BreastUSAI"


def register() -> None:
    """Register all samples; what is registered already stays. Does nothing where the Sample Data module is switched off."""
    try:
        import SampleData
    except ImportError:
        return
    for sample in samples():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=sample.title,
            uris=sample.path.as_uri(),
            fileNames=f"{CATEGORY}-{sample.file}",
            nodeNames=sample.title,
            thumbnailFileName=str(sample.thumbnail_path),
            loadFileType="VolumeFile",
            checksums=f"SHA256:{sample.sha256}",
        )
