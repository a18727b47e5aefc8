"""The workers of a Dask cluster as an engine; imported only where it is used."""

from __future__ import annotations

from functools import partial

import distributed

from .cluster import Domains
from .cluster_engine import ClusterEngine
from .dask_cluster import DaskCluster

__all__ = ["Dask"]


class Dask(ClusterEngine):
    """The workers of a Dask cluster; each slot is pinned to one worker process of it.

    * One crash costs one answer: a call is never run again, regardless of ``allowed-failures``.
      Its slot goes on with the worker that the nanny starts in place of the dead one, or with a
      spare one; if for 30 s there is neither, it shares another slot's worker until one comes.
    * Calls are Dask tasks named ``codedmap-wave3-slot7-...``: here the third call of slot 7.
    * Functions travel by cloudpickle; what they import must be installed on the workers.
    * Neither the client nor the cluster is closed with the engine.

    What becomes of a straggler depends on ``grace``, because Dask cannot end a running task: what
    it calls cancelling only makes its scheduler send other tasks to the busy worker.

    * With ``grace=None``, the default, no worker is ever ended: a straggler goes on and holds its worker,
      also after the engine has been closed. Until it is done its slot is a straggler of the next
      waves, which costs them no time but one answer each.
    * With a number of seconds, the worker process of an abandoned call that still runs then is
      killed, and so is, when the engine is closed, that of any call that still runs; its nanny starts
      another, which takes some seconds. Everything else that the process held, also for other users of the
      cluster, is lost to Dask, which computes it again where it can.

    Parameters
    ----------
    client : distributed.Client
        Connected, and not asynchronous.
    workers : int, optional
        Number of slots; by default one for each worker process. With fewer processes than slots they
        are shared and losses come together: a warning says so.
    grace : float, optional
        Seconds for which an abandoned call may still run before its worker is ended.
    failure_domains : mapping or callable, optional
        With whom a worker fails: a name, or a tuple from the widest group to the narrowest, such as
        ``("rack 1", "host 7")``. By address, name or host of the worker, or a function of its
        entry in ``client.scheduler_info()["workers"]``. By default the host. Neighbouring slots are
        on different domains wherever possible.

    Raises
    ------
    InvalidArgument
        If the client or the failure domains cannot be used, or workers that ``grace`` would end have no
        nanny.
    EngineError
        If there are no workers, the scheduler does not answer within 30 s, or Python or codedmap
        differ between caller and cluster. Later also when the connection to the scheduler is lost.
    """

    def __init__(
        self,
        client: distributed.Client,
        *,
        workers: int | None = None,
        grace: float | None = None,
        failure_domains: Domains | None = None,
    ) -> None:
        super().__init__(
            partial(DaskCluster, client=client, grace=grace, domains=failure_domains),
            workers,
            grace,
        )
