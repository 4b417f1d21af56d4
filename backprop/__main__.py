"""``python -m backprop`` is the command ``backprop``."""

from backprop.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    main()
