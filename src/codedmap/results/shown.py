"""How results are shown: by their text, in a notebook as a table."""

from __future__ import annotations

import re
from html import escape


class Shown:
    """What has a text whose indented lines are columns, two spaces apart."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        parts, rows = [], []
        for line in [*str(self).splitlines(), ""]:
            if line.startswith("  "):
                cells = (f"<td>{escape(cell)}</td>" for cell in re.split(r" {2,}", line.strip()))
                rows.append(f"<tr>{''.join(cells)}</tr>")
                continue
            if rows:
                parts.append(f"<table>{''.join(rows)}</table>")
                rows = []
            parts.append(f"<div>{escape(line)}</div>" if line else "")
        return "".join(parts)
