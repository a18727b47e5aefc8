"""The codes, one file each. This is their one table: a code is public by its line here.

`plan`, the command line, the contract tests and the API page find it here.
"""

from .berrut import BerrutCode as BerrutCode
from .cyclic_gradient import CyclicGradientCode as CyclicGradientCode
from .fractional_repetition import FractionalRepetition as FractionalRepetition
from .grouped_gradient import GroupedGradientCode as GroupedGradientCode
from .ignore_stragglers import IgnoreStragglers as IgnoreStragglers
from .kernel import KernelCode as KernelCode
from .lagrange import LagrangeCode as LagrangeCode
from .linear import LinearCode as LinearCode
from .mds import MDSCode as MDSCode
from .polar import PolarCode as PolarCode
from .polynomial_gradient import PolynomialGradientCode as PolynomialGradientCode
from .replication import Replication as Replication
from .replication import Uncoded as Uncoded
from .spline import SplineCode as SplineCode

__all__ = [name for name, it in list(globals().items()) if isinstance(it, type)]
