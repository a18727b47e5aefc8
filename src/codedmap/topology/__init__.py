"""Which nodes of a cluster learn together, and for how long, at the least cost (DoubleClimb)."""

from .cluster import Cluster, InformationNode, LearningNode, Link
from .error import ErrorModel
from .plan import ClusterPlan, plan_cluster

__all__ = [
    "Cluster",
    "ClusterPlan",
    "ErrorModel",
    "InformationNode",
    "LearningNode",
    "Link",
    "plan_cluster",
]
