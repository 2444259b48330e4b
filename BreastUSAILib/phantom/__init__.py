"""Synthetic ABUS volumes with exact ground truth: `phantom.generate(seed, spec)`. See docs/phantom.md."""
