"""The model zoo: catalogue, checksums, loading, devices. Weights are safetensors; nothing is ever unpickled."""
