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
from types import ModuleType as _ModuleType

from . import codes as codes
from . import contracts as contracts
from . import engines as engines
from . import errors as errors
from . import estimation as estimation
from . import latency as latency
from . import results as results
from . import testing as testing
from . import topology as topology
from . import training as training
from .api.amap import amap as amap
from .api.amap import astream as astream
from .api.command import command as command
from .api.fill import fill as fill
from .api.map import map as map
from .api.map import stream as stream
from .api.onnx import OnnxModel as OnnxModel
from .api.plan import plan as plan
from .api.pool import Pool as Pool
from .api.sum import CodedParts as CodedParts
from .api.sum import sum as sum
from .api.sweep import sweep as sweep
from .codes import BerrutCode as BerrutCode
from .codes import KernelCode as KernelCode
from .codes import LagrangeCode as LagrangeCode
from .codes import Replication as Replication
from .codes import SplineCode as SplineCode
from .codes import Uncoded as Uncoded
from .contracts.stopping import Deadline as Deadline
from .contracts.stopping import Decodable as Decodable
from .contracts.stopping import Everyone as Everyone
from .contracts.stopping import Outcome as Outcome
from .contracts.stopping import Quorum as Quorum
from .contracts.stopping import Share as Share
from .contracts.stopping import Slower as Slower
from .contracts.stopping import Tolerance as Tolerance
from .engines.limits import Limits as Limits
from .errors import CodedmapError as CodedmapError
from .errors import EngineError as EngineError
from .errors import InvalidAnswer as InvalidAnswer
from .errors import InvalidArgument as InvalidArgument
from .errors import NotEnoughAnswers as NotEnoughAnswers
from .errors import WorkerCrashed as WorkerCrashed
from .execution.hedge import Hedge as Hedge
from .execution.task import itemwise as itemwise
from .results import FillResult as FillResult
from .results import MapResult as MapResult
from .results import MatrixResult as MatrixResult
from .results import Plan as Plan
from .results import Status as Status
from .results import SumResult as SumResult
from .results import SweepResult as SweepResult

if _typing.TYPE_CHECKING:
    from .api.joblib_backend import JoblibBackend as JoblibBackend
    from .api.matrix import CodedMatrix as CodedMatrix

__version__ = "0.1.0"

_LATER = {"CodedMatrix": "matrix", "JoblibBackend": "joblib_backend"}
_faces = (codes, contracts, engines, estimation, latency, results, testing, topology, training)
__all__ = [  # of modules only the public ones
    name
    for name, it in sorted({**globals(), **_LATER}.items())
    if not name.startswith("_") and (not isinstance(it, _ModuleType) or it in (errors, *_faces))
]
for _names in (*(vars(_face) for _face in _faces), globals()):
    for _name in _names["__all__"]:
        # Tracebacks, pickles, reprs and the documentation show the name under which users import it.
        if hasattr(_names.get(_name), "__qualname__"):
            _names[_name].__module__ = _names["__name__"]
del _faces, _names, _name


def __getattr__(name: str) -> _typing.Any:
    """Load what imports much of other libraries when it is first asked for."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(_import_module(f".api.{_LATER[name]}", __name__), name)
    found.__module__ = __name__
    return found
