"""The interfaces of codes, engines and stopping rules, and the checks of inputs and answers."""

from .code import Code, Encoding, Estimate
from .matrix_code import MatrixCode
from .stopping import Progress, StoppingRule
from .sum_code import SumCode

__all__ = [
    "Code",
    "Encoding",
    "Estimate",
    "MatrixCode",
    "Progress",
    "StoppingRule",
    "SumCode",
]
