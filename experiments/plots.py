"""Shared settings of all figures: size, fonts, and one colour per scheme."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from PIL import Image

__all__ = ["SCHEME_COLOURS", "figure"]

# Okabe and Ito's palette, suited to colour-blind readers.
SCHEME_COLOURS = {
    "BACC": "#E69F00",
    "LeTCC": "#0072B2",
    "LeTCC, tuned": "#56B4E9",
    "LCC": "#CC79A7",
    "copies": "#009E73",
    "uncoded": "#999999",
    "KernelCode": "#D55E00",
}


@contextmanager
def figure(path: Path, rows: int, columns: int, **more: Any) -> Iterator[Any]:
    """Axes (rows, columns) of a figure of 1600 by 1000 pixels, written to ``path`` at the end."""
    style = {"font.size": 13, "axes.spines.top": False, "axes.spines.right": False}
    with plt.rc_context(style):
        drawing, axes = plt.subplots(
            rows, columns, figsize=(16, 10), dpi=100, squeeze=False, layout="constrained", **more
        )
        yield axes
        # Without date and software version, equal figures are equal files.
        drawing.savefig(path, metadata={"Software": None})
        plt.close(drawing)
        # 256 colours are a third of the bytes, and to the eye the same.
        with Image.open(path) as drawn:
            drawn.convert("RGB").quantize(dither=Image.Dither.NONE).save(path, optimize=True)
