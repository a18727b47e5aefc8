"""Make the pictures of the pages: `python docs/pictures.py` runs the examples that save them."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

import matplotlib as mpl
from PIL import Image

DOCS = Path(__file__).parent.absolute()
PICTURES = {"timeline.png": "first-map.md", "flood.png": "sensitivity.md"}


def make(picture: str, page: str) -> None:
    """Run a page up to the example that saves this picture, and keep it in ``_static``."""
    names: dict[str, object] = {}
    for source in re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S):
        exec(source, names)
        if picture in source:
            # 64 colours take a third of the bytes.
            Image.open(picture).convert("RGB").quantize(64).save(DOCS / "_static" / picture)
            return
    raise LookupError(f"no example of {page} saves {picture}")


if __name__ == "__main__":
    mpl.use("agg")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for picture, page in PICTURES.items():
            make(picture, page)
