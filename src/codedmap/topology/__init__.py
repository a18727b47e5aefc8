"""Which nodes of a cluster learn together, and for how long, at the least cost (DoubleClimb)."""

from .cluster import Cluster as Cluster
from .cluster import InformationNode as InformationNode
from .cluster import LearningNode as LearningNode
from .cluster import Link as Link
from .error import ErrorModel as ErrorModel
from .plan import ClusterPlan as ClusterPlan
from .plan import plan_cluster as plan_cluster

__all__ = [
    "Cluster",
    "ClusterPlan",
    "ErrorModel",
    "InformationNode",
    "LearningNode",
    "Link",
    "plan_cluster",
]

for _name in __all__:
    # Pickles, reprs and the documentation name things where people find them.
    globals()[_name].__module__ = __name__
del _name
