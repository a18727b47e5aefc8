"""A Ray cluster's nodes and actors: how many fit, how one is started and killed."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import EngineError, WorkerCrashed
from .ray_session import Session
from .transport.failure import Failure
from .transport.parcel import Parcel
from .transport.serve import Request, Terminated, serve, versions

__all__ = ["Actors"]


class Worker:
    """What an actor does: one call at a time, in the order in which they were sent."""

    def __init__(self) -> None:
        # Ray's own handler raises a plain SystemExit, which looks like one of the function's.
        signal.signal(signal.SIGTERM, _end)

    def hello(self) -> tuple[dict[str, str], str]:
        """Its versions, and the node where it is."""
        return versions(), ray.get_runtime_context().get_node_id()

    def serve(self, request: Request) -> Parcel | Failure:
        """Compute one call."""
        return serve(request)


def _end(number: int, _: object) -> None:
    raise Terminated(f"the worker was terminated (signal {number})")


class Actors:
    """The actors that an engine has started, under names that are never used again.

    Parameters
    ----------
    session : Session
    run : str
        Names the engine.
    needs : mapping of str to float
        What Ray reserves for each, by Ray's resource names; without zeros.
    soon : callable
        Calls a function with an argument soon, in another thread than Ray's own.
    """

    def __init__(
        self,
        session: Session,
        run: str,
        needs: Mapping[str, float],
        soon: Callable[..., None],
    ) -> None:
        self._session = session
        self._run = run
        self._needs = dict(needs)
        self._soon = soon
        self._actor: Any = ray.remote(Worker)  # once, because Ray keeps every such class
        self._handles: dict[str, Any] = {}
        self._started = 0
        self.unreachable: set[str] = set()
        """Workers that did not answer, perhaps because their node does not."""

    def capacity(self, wanted: int | None) -> tuple[int, int]:
        """How many to start, by default one for each CPU or as many as fit, and how many of these fit now.

        Raises
        ------
        EngineError
            If none fits.
        """
        nodes = self._session.nodes()
        if not self._needs:
            cpus = int(sum(node["Resources"].get("CPU", 0) for node in nodes.values()))
            count = max(1, cpus) if wanted is None else wanted
            return count, count
        room = sum(self._fit(node["Resources"]) for node in nodes.values())
        room = min(room, self._fit(ray.available_resources()))
        if not room:
            raise EngineError(
                f"no node of the Ray cluster has {self._needs} free for a worker: ask for less "
                "(num_cpus=0 reserves no CPU), or wait for what uses it; see `ray status`"
            )
        return (room, room) if wanted is None else (wanted, min(room, wanted))

    def start(self, node: str) -> tuple[str, Any]:
        """Start one on a node: its name, and a reference to its greeting."""
        worker = f"codedmap-{self._run}-{self._started}"
        self._started += 1
        needs = dict(self._needs)
        # Not soft: Ray would put some elsewhere though there is room, and neighbours together.
        on: Any = NodeAffinitySchedulingStrategy(node, soft=False)
        self._handles[worker] = handle = self._actor.options(
            name=worker,
            num_cpus=needs.pop("CPU", 0),
            num_gpus=needs.pop("GPU", 0),
            memory=needs.pop("memory", None),
            resources=needs,
            # What needs nothing fits on any node; else Ray knows where there is room.
            scheduling_strategy="SPREAD" if self._needs else on,
            max_restarts=0,
            max_task_retries=0,
        ).remote()
        return worker, handle.hello.remote()

    def send(self, worker: str, request: Request, name: str) -> Future[Any]:
        """Send a call of this name to a worker.

        The future fails with `WorkerCrashed` if the actor dies, else with `EngineError`.
        """
        answer: Future[Any] = Future()
        try:
            self._session.check_open()
            call = self._handles[worker].serve.options(name=name).remote(request)
        except EngineError as error:
            answer.set_exception(error)
        except Exception as error:  # such as no room for the payload
            problem = EngineError(f"Ray has not sent the call ({type(error).__name__}: {error})")
            problem.__cause__ = error
            answer.set_exception(problem)
        else:
            self.when(call, partial(self._answered, worker, answer))
        return answer

    def _answered(self, worker: str, answer: Future[Any], done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
            return
        problem: Exception = WorkerCrashed(
            f"the Ray worker {worker} died during the call, or left: its answer is lost"
        )
        if isinstance(error, ray.exceptions.RayTaskError):  # it lives, but could not begin the call
            problem = EngineError(f"the Ray worker {worker} cannot serve calls: {error}")
        elif isinstance(error, ray.exceptions.ActorUnavailableError):
            self.unreachable.add(worker)
        problem.__cause__ = error
        answer.set_exception(problem)

    def when(self, reference: Any, then: Callable[[Future[Any]], None]) -> None:
        """Call a function soon after the referenced object is ready or has failed."""
        # Not in Ray's own thread, which must not block.
        reference.future().add_done_callback(partial(self._soon, then))

    def kill(self, worker: str) -> None:
        """Kill one at once; do nothing if it was killed before."""
        handle = self._handles.pop(worker, None)
        if handle is not None and ray.is_initialized():
            with contextlib.suppress(Exception):  # Ray is being shut down, and the actor with it
                ray.kill(handle)

    def kill_all(self) -> None:
        """Kill all that were started and not killed yet."""
        for worker in tuple(self._handles):
            self.kill(worker)

    def _fit(self, resources: Mapping[str, float]) -> int:
        return min(int(resources.get(what, 0) / need + 1e-9) for what, need in self._needs.items())
