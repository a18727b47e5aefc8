"""What codes, engines and stopping rules promise, and what inputs and answers have to be."""

from .code import Code as Code
from .code import Encoding as Encoding
from .code import Estimate as Estimate
from .matrix_code import MatrixCode as MatrixCode
from .stopping import Progress as Progress
from .stopping import StoppingRule as StoppingRule
from .sum_code import SumCode as SumCode

__all__ = [
    "Code",
    "Encoding",
    "Estimate",
    "MatrixCode",
    "Progress",
    "StoppingRule",
    "SumCode",
]

for _name in __all__:
    # Pickles, reprs and the documentation name things where people find them.
    globals()[_name].__module__ = __name__
del _name
