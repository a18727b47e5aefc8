"""The interfaces of codes, engines and stopping rules, and the checks of inputs and answers."""

from .code import Code as Code
from .code import Encoding as Encoding
from .code import Estimate as Estimate
from .matrix_code import Decoded as Decoded
from .matrix_code import MatrixCode as MatrixCode
from .stopping import Progress as Progress
from .stopping import StoppingRule as StoppingRule
from .sum_code import SumCode as SumCode

__all__ = [name for name, it in list(globals().items()) if callable(it)]
