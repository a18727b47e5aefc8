"""Results of the entry points."""

from .calls import CallRecord, CallTable
from .fill_result import FillResult
from .map_result import MapResult
from .plan import Plan, PlanRow
from .status import Status
from .sum_result import MatrixResult, SumResult

__all__ = [
    "CallRecord",
    "CallTable",
    "FillResult",
    "MapResult",
    "MatrixResult",
    "Plan",
    "PlanRow",
    "Status",
    "SumResult",
]
