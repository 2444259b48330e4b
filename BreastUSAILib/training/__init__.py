"""Training: data sets, augmentation, losses and one recipe a system. The tasks never import this package."""
