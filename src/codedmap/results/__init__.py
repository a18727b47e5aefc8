"""Results of the entry points."""

from .calls import CallRecord as CallRecord
from .calls import CallTable as CallTable
from .fill_result import FillResult as FillResult
from .map_result import MapResult as MapResult
from .plan import Plan as Plan
from .plan import PlanRow as PlanRow
from .status import Status as Status
from .sum_result import MatrixResult as MatrixResult
from .sum_result import SumResult as SumResult
from .sweep_result import SweepResult as SweepResult

__all__ = [name for name, it in list(globals().items()) if callable(it)]
