"""Run a function over many inputs on workers that are slow, crash or return wrong results.

>>> import numpy as np, codedmap as cm
>>> from concurrent.futures import ThreadPoolExecutor
>>> with ThreadPoolExecutor(8) as pool:
...     result = cm.map(np.tanh, np.linspace(-1, 1, 40), code=cm.SplineCode(4, 8, 2), engine=pool)
>>> bool(np.abs(result.values - np.tanh(np.linspace(-1, 1, 40))).max() < 0.1)
True
"""

import typing as _typing
from importlib import import_module as _import_module

from . import (
    codes,
    contracts,
    engines,
    errors,
    estimation,
    latency,
    results,
    testing,
    topology,
    training,
)
from .api.amap import amap, astream
from .api.fill import fill
from .api.map import map, stream
from .api.onnx import OnnxModel
from .api.plan import plan
from .api.pool import Pool
from .api.sum import CodedParts, sum
from .api.sweep import sweep
from .codes import BerrutCode, KernelCode, LagrangeCode, Replication, SplineCode, Uncoded
from .contracts.stopping import (
    Deadline,
    Decodable,
    Everyone,
    Outcome,
    Quorum,
    Share,
    Slower,
    Tolerance,
)
from .engines.limits import Limits
from .errors import (
    CodedmapError,
    EngineError,
    InvalidAnswer,
    InvalidArgument,
    NotEnoughAnswers,
    WorkerCrashed,
)
from .execution.hedge import Hedge
from .execution.task import itemwise
from .results import FillResult, MapResult, MatrixResult, Plan, Status, SumResult, SweepResult

if _typing.TYPE_CHECKING:
    from .api.joblib_backend import JoblibBackend
    from .api.matrix import CodedMatrix

__version__ = "0.1.0"

__all__ = [
    "BerrutCode",
    "CodedMatrix",
    "CodedParts",
    "CodedmapError",
    "Deadline",
    "Decodable",
    "EngineError",
    "Everyone",
    "FillResult",
    "Hedge",
    "InvalidAnswer",
    "InvalidArgument",
    "JoblibBackend",
    "KernelCode",
    "LagrangeCode",
    "Limits",
    "MapResult",
    "MatrixResult",
    "NotEnoughAnswers",
    "OnnxModel",
    "Outcome",
    "Plan",
    "Pool",
    "Quorum",
    "Replication",
    "Share",
    "Slower",
    "SplineCode",
    "Status",
    "SumResult",
    "SweepResult",
    "Tolerance",
    "Uncoded",
    "WorkerCrashed",
    "amap",
    "astream",
    "codes",
    "contracts",
    "engines",
    "errors",
    "estimation",
    "fill",
    "itemwise",
    "latency",
    "map",
    "plan",
    "results",
    "stream",
    "sum",
    "sweep",
    "testing",
    "topology",
    "training",
]

_faces = (codes, contracts, engines, estimation, latency, results, testing, topology, training)
for _names in (*(vars(_face) for _face in _faces), globals()):
    for _name in _names["__all__"]:
        # Tracebacks, pickles, reprs and the documentation show the name under which users import it.
        if hasattr(_names.get(_name), "__qualname__"):
            _names[_name].__module__ = _names["__name__"]
del _faces, _names, _name


_LATER = {"CodedMatrix": "matrix", "JoblibBackend": "joblib_backend"}


def __getattr__(name: str) -> _typing.Any:
    """Load what imports much of other libraries when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(_import_module(f".api.{_LATER[name]}", __name__), name)
    found.__module__ = __name__
    return found
