"""The codes, one short file each."""

from .berrut import BerrutCode as BerrutCode
from .kernel import KernelCode as KernelCode
from .lagrange import LagrangeCode as LagrangeCode
from .replication import Replication as Replication
from .replication import Uncoded as Uncoded
from .spline import SplineCode as SplineCode

__all__ = ["BerrutCode", "KernelCode", "LagrangeCode", "Replication", "SplineCode", "Uncoded"]
