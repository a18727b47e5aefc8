"""Entry point: ``python -m examples.demo``."""

from __future__ import annotations

import importlib.util
import sys

EXTRA = ("matplotlib", "mlxtend", "onnxruntime")
INTERRUPTED = 130  # what shells report after Ctrl-C


def main() -> int:
    """Run the demonstration; return the exit code."""
    lacking = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if lacking:
        print(
            f"the demo needs {', '.join(lacking)}: run `make demo`, "
            "or pip install --editable '.[demo]'",
            file=sys.stderr,
        )
        return 1
    try:
        # Imported here, after the check for missing extras, so that Ctrl-C works during the import.
        from .program import demonstrate  # noqa: PLC0415

        demonstrate()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
