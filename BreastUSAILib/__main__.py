"""``python -m BreastUSAILib``: the same as ``breastusai``."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
