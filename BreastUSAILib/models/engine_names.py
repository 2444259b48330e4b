"""What runs networks: the names, for command lines, without PyTorch."""

ENGINES = ("auto", "torch", "openvino")
ENGINE_VARIABLE = "BREASTUSAI_ENGINE"
"""The environment variable that says the engine to a command's processes."""
