"""Run ``fn`` on K inputs over N unreliable workers, and have all K answers when the fast ones are done.

>>> import numpy as np, codedmap as cm
>>> from concurrent.futures import ThreadPoolExecutor
>>> with ThreadPoolExecutor(8) as pool:
...     result = cm.map(np.tanh, np.linspace(-1, 1, 40), code=cm.SplineCode(4, 8, 2), engine=pool)
>>> bool(np.abs(result.values - np.tanh(np.linspace(-1, 1, 40))).max() < 0.1)
True
"""

from . import engines as engines
from . import latency as latency
from . import testing as testing
from . import training as training
from ._clusters.cluster import Cluster as Cluster
from ._clusters.cluster import InformationNode as InformationNode
from ._clusters.cluster import LearningNode as LearningNode
from ._clusters.cluster import Link as Link
from ._clusters.door import plan_cluster as plan_cluster
from ._clusters.error import ErrorModel as ErrorModel
from ._clusters.table import ClusterPlan as ClusterPlan
from ._code import Code as Code
from ._code import Encoding as Encoding
from ._code import Estimate as Estimate
from ._errors import Abandoned as Abandoned
from ._errors import CannotSend as CannotSend
from ._errors import CodedmapError as CodedmapError
from ._errors import EngineError as EngineError
from ._errors import InvalidAnswer as InvalidAnswer
from ._errors import InvalidArgument as InvalidArgument
from ._errors import KeptLost as KeptLost
from ._errors import MissingMainGuard as MissingMainGuard
from ._errors import NotEnoughAnswers as NotEnoughAnswers
from ._errors import NotEnoughMemory as NotEnoughMemory
from ._errors import Unreachable as Unreachable
from ._errors import WorkerCrashed as WorkerCrashed
from ._errors import WorkerLost as WorkerLost
from ._hedge import Hedge as Hedge
from ._kernel import Known as Known
from ._kernel import Prior as Prior
from ._linear import LinearCode as LinearCode
from ._map import itemwise as itemwise
from ._map import map as map
from ._matrices.code import MatrixCode as MatrixCode
from ._matrices.door import CodedMatrix as CodedMatrix
from ._matrices.result import MatrixResult as MatrixResult
from ._onnx import OnnxModel as OnnxModel
from ._planning.door import plan as plan
from ._planning.table import Plan as Plan
from ._planning.table import PlanRow as PlanRow
from ._result import MapResult as MapResult
from ._rules import Deadline as Deadline
from ._rules import Decodable as Decodable
from ._rules import Everyone as Everyone
from ._rules import Outcome as Outcome
from ._rules import Progress as Progress
from ._rules import Quorum as Quorum
from ._rules import StopRule as StopRule
from ._rules import Tolerance as Tolerance
from ._stream import stream as stream
from ._sums.code import SumCode as SumCode
from ._sums.door import sum as sum
from ._sums.parts import CodedParts as CodedParts
from ._sums.result import SumResult as SumResult
from ._totals import Totals as Totals
from ._waves import Waves as Waves
from ._waves import waves as waves
from .codes import BerrutCode as BerrutCode
from .codes import CyclicGradientCode as CyclicGradientCode
from .codes import FractionalRepetition as FractionalRepetition
from .codes import GroupedGradientCode as GroupedGradientCode
from .codes import IgnoreStragglers as IgnoreStragglers
from .codes import KernelCode as KernelCode
from .codes import LagrangeCode as LagrangeCode
from .codes import MDSCode as MDSCode
from .codes import PolarCode as PolarCode
from .codes import PolynomialGradientCode as PolynomialGradientCode
from .codes import Replication as Replication
from .codes import SplineCode as SplineCode
from .codes import Uncoded as Uncoded

__version__ = "0.1.0"

__all__ = [
    "Abandoned",
    "BerrutCode",
    "CannotSend",
    "Cluster",
    "ClusterPlan",
    "Code",
    "CodedMatrix",
    "CodedParts",
    "CodedmapError",
    "CyclicGradientCode",
    "Deadline",
    "Decodable",
    "Encoding",
    "EngineError",
    "ErrorModel",
    "Estimate",
    "Everyone",
    "FractionalRepetition",
    "GroupedGradientCode",
    "IgnoreStragglers",
    "Hedge",
    "InformationNode",
    "InvalidAnswer",
    "InvalidArgument",
    "KeptLost",
    "KernelCode",
    "Known",
    "LagrangeCode",
    "LearningNode",
    "LinearCode",
    "Link",
    "MDSCode",
    "MapResult",
    "MatrixCode",
    "MatrixResult",
    "MissingMainGuard",
    "NotEnoughAnswers",
    "NotEnoughMemory",
    "OnnxModel",
    "Outcome",
    "Plan",
    "PlanRow",
    "PolynomialGradientCode",
    "PolarCode",
    "Prior",
    "Progress",
    "Quorum",
    "Replication",
    "SplineCode",
    "StopRule",
    "SumCode",
    "SumResult",
    "Tolerance",
    "Totals",
    "Uncoded",
    "Unreachable",
    "Waves",
    "WorkerCrashed",
    "WorkerLost",
    "engines",
    "itemwise",
    "latency",
    "map",
    "plan",
    "plan_cluster",
    "stream",
    "sum",
    "testing",
    "training",
    "waves",
]

for _name in __all__:
    # Tracebacks, reprs and the documentation name things where people find them.
    if hasattr(globals()[_name], "__qualname__"):
        globals()[_name].__module__ = __name__
del _name
