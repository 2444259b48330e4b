"""BreastUSAI: find, outline and measure lesions in breast ultrasound images.

Research use only; not a medical device. The package imports without Slicer and without PyTorch: each module
imports what it needs, heavy libraries only inside the functions that use them.
"""

__version__ = "0.1.0"

RESEARCH_USE = (
    "For research use only. BreastUSAI is not a medical device and must not be used for diagnosis or treatment."
)
