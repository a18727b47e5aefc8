"""The limits that control groups set this process, such as on its memory or its threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_FOLDER = Path("sys/fs/cgroup")
_V1_FILES = {"memory": ("memory.limit_in_bytes", "memory.usage_in_bytes")}
"""Where version 1 names its files otherwise than version 2: limit, and what is used of it."""


class GroupLimit(NamedTuple):
    """What one group may use, and uses."""

    limit: int
    used: int
    file: Path
    """That states the limit, below the root of the file system."""


def group_limits(controller: str, root: Path = Path("/")) -> Iterator[GroupLimit]:
    """Of the groups that hold this process, and of those that hold them; none where there is no limit."""
    groups = {(_FOLDER, False), (_FOLDER / controller, True)}
    with suppress(OSError, ValueError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers == "" or controller in controllers.split(","):
                base = _FOLDER / (controller if controllers else "")
                group = Path(path.lstrip("/"))
                groups |= {(base / one, bool(controllers)) for one in (group, *group.parents)}
    for folder, first_version in sorted(groups):
        files = f"{controller}.max", f"{controller}.current"
        limit, used = _V1_FILES.get(controller, files) if first_version else files
        with suppress(OSError, ValueError):  # no such group, or "max"
            yield GroupLimit(
                int((root / folder / limit).read_text()),
                int((root / folder / used).read_text()),
                folder / limit,
            )
