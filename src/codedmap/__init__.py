"""Run ``fn`` on K inputs over N unreliable workers, and have all K answers when the fast ones are done.

>>> import numpy as np, codedmap as cm
>>> from concurrent.futures import ThreadPoolExecutor
>>> with ThreadPoolExecutor(8) as pool:
...     result = cm.map(np.tanh, np.linspace(-1, 1, 40), code=cm.SplineCode(4, 8, 2), engine=pool)
>>> bool(np.abs(result.values - np.tanh(np.linspace(-1, 1, 40))).max() < 0.1)
True
"""

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
from .api.map import itemwise as itemwise
from .api.map import map as map
from .api.map import stream as stream
from .api.matrix import CodedMatrix as CodedMatrix
from .api.onnx import OnnxModel as OnnxModel
from .api.plan import plan as plan
from .api.sum import CodedParts as CodedParts
from .api.sum import sum as sum
from .api.waves import Waves as Waves
from .api.waves import waves as waves
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
from .contracts.stopping import Tolerance as Tolerance
from .errors import CodedmapError as CodedmapError
from .errors import EngineError as EngineError
from .errors import InvalidAnswer as InvalidAnswer
from .errors import InvalidArgument as InvalidArgument
from .errors import NotEnoughAnswers as NotEnoughAnswers
from .errors import WorkerCrashed as WorkerCrashed
from .execution.hedge import Hedge as Hedge
from .results import MapResult as MapResult
from .results import MatrixResult as MatrixResult
from .results import Plan as Plan
from .results import SumResult as SumResult

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
    "Hedge",
    "InvalidAnswer",
    "InvalidArgument",
    "KernelCode",
    "LagrangeCode",
    "MapResult",
    "MatrixResult",
    "NotEnoughAnswers",
    "OnnxModel",
    "Outcome",
    "Plan",
    "Quorum",
    "Replication",
    "SplineCode",
    "SumResult",
    "Tolerance",
    "Uncoded",
    "Waves",
    "WorkerCrashed",
    "codes",
    "contracts",
    "engines",
    "errors",
    "estimation",
    "itemwise",
    "latency",
    "map",
    "plan",
    "results",
    "stream",
    "sum",
    "testing",
    "topology",
    "training",
    "waves",
]

for _name in __all__:
    # Tracebacks, reprs and the documentation name things where people find them.
    if hasattr(globals()[_name], "__qualname__"):
        globals()[_name].__module__ = __name__
del _name
