"""Which nodes of a cluster learn together, and for how long, at the least cost (DoubleClimb)."""

from .cluster import Cluster as Cluster
from .cluster import ErrorModel as ErrorModel
from .cluster import InformationNode as InformationNode
from .cluster import LearningNode as LearningNode
from .cluster import Link as Link
from .plan import ClusterPlan as ClusterPlan
from .plan import plan_cluster as plan_cluster

__all__ = [name for name, it in list(globals().items()) if callable(it)]
