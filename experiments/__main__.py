"""``python -m experiments NAME [NAME ...] [--quick]``: tables and figures under results/."""

from __future__ import annotations

import importlib.util
import sys

EXTRA = ("matplotlib", "mlxtend", "onnxruntime", "pandas", "PIL")
INTERRUPTED = 130  # what shells report after Ctrl-C


def main() -> int:
    """Run the experiments; return the exit code."""
    lacking = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if lacking:
        print(
            f"the experiments need {', '.join(lacking)}: run `make reproduce`, "
            "or pip install --editable '.[experiments]'",
            file=sys.stderr,
        )
        return 1
    try:
        # Imported here: loading takes seconds, during which Ctrl-C must work too.
        from .program import run_named  # noqa: PLC0415

        return run_named()
    except KeyboardInterrupt:
        print(
            "\ninterrupted: the finished cells are stored; run the command again to resume",
            file=sys.stderr,
        )
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
