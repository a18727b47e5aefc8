"""Entry point: ``python -m examples.training [NAME ...] [--quick]``."""

from __future__ import annotations

import importlib.util
import sys

EXTRA = ("matplotlib", "mlxtend", "distributed")
INTERRUPTED = 130  # what shells report after Ctrl-C


def main() -> int:
    """Run the example; return the exit code."""
    lacking = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if lacking:
        print(
            f"the training example needs {', '.join(lacking)}: "
            "pip install --editable '.[demo,dask]', and '.[train]' for the network",
            file=sys.stderr,
        )
        return 1
    try:
        # Imported here, after the check for missing extras, so that Ctrl-C works during the import.
        from .program import run_named  # noqa: PLC0415

        return run_named()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
