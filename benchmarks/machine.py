"""The machine and software on which figures depend."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import numpy as np
import scipy
from threadpoolctl import threadpool_info

__all__ = ["cores", "facts"]


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def facts(*, quick: bool) -> dict[str, str]:
    """Machine and software, as columns of a table."""
    blas = {
        f"{pool['internal_api']} {pool['version']} {pool.get('architecture', '')}".strip()
        for pool in threadpool_info()
        if pool["user_api"] == "blas"
    }
    asked = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpus": str(cores()),
        "cpu": _cpu(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "blas": "; ".join(sorted(blas)),
        "thread variables": " ".join(f"{k}={v}" for k, v in asked.items()) or "none set",
        "load before": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "quick": "yes" if quick else "no",
    }


_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
