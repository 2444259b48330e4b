"""Metrics and evaluation protocols. The tasks never import this package."""
