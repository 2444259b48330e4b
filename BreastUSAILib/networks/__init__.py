"""The published networks, one file each: nothing but ``torch.nn.Module``."""
