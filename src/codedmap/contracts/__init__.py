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

for _name in __all__:
    # Pickles, reprs and the documentation give the public path.
    globals()[_name].__module__ = __name__
del _name
