"""SketchedAMSGrad: workers send count sketches of gradients, the caller keeps what they add up to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..api.sum import CodedParts
from ..api.sum import sum as added
from ..contracts.arguments import check_whole
from ..contracts.stopping import StoppingRule
from ..errors import InvalidArgument
from .moments import Moments, Rate, flattened
from .optimizer import Optimizer
from .sketch import CountSketch
from .step import Step

__all__ = ["SketchedAMSGrad"]


class SketchedAMSGrad(Optimizer):
    """AMSGrad from count sketches of the gradients, a few weights at a step (arXiv 2210.07454).

    A worker sends ``sketch.numbers`` numbers instead of d, whatever code carries them: sketching is
    linear, and so are the codes. Step t, with the paper's symbols, on the mean over parts of their
    gradients g_t:

    1. S(g_t), the sum of the workers' sketches; g̃_t = U(S(g_t)), what it tells of the gradient. With
       ``exact`` coordinates, the exact values are asked for where a_t (below) would be largest, in a
       second round of calls, and replace the sketch's.
    2. m_t = β₁ m_{t-1} + (1 - β₁) g̃_t; v_t = β₂ v_{t-1} + (1 - β₂) g̃_t²; v̂_t = max(v̂_{t-1}, v_t),
       from m₀ = 0 and v₀ = v̂₀ = ε.
    3. a_t = m_t + (α_{t-1} / α_t) e_{t-1}; Δ_t is a_t / √v̂_t at its k largest entries, 0 elsewhere.
    4. e_t = a_t - √v̂_t Δ_t, which is carried to the next step: what was not applied is not lost,
       Σ α_s √v̂_s Δ_s + α_t e_t = Σ α_s m_s. Weights ← weights - α_t Δ_t.

    Where this differs from the paper, of which only the abstract and a catalogue's transcription of
    the variant that averages gradients could be read:

    - There each worker keeps m and e of its own, and sends S(m_t + (α_{t-1} / α_t) e_{t-1}). Here
      workers keep nothing, since several hold the same part and those that straggle miss steps, so the
      caller keeps m and e, and the hashes of the sketch are drawn anew at every step, so that its errors
      do not add up in them. With fixed hashes and m and e kept as sketches, which is the same as the paper's
      sum, training diverged wherever we tried it (docs/training.md).
    - The second moment's h_t, "the aggregated gradient coordinates", is g̃_t here.
    - The transcription takes Δ_t itself from e_t, though the two are in different units: for entries
      with v̂ below 1/4 that grows without bound. Here it is √v̂_t Δ_t.
    - The second round is that of Sketched-SGD (arXiv 1903.04488). Whether this paper has it could
      not be seen. Workers compute the gradient once more for it.

    Weights travel to the workers in full with every call: what is saved is what comes back.

    Parameters
    ----------
    weights : array_like
        Where to start; float32 or float64, of any shape, d numbers. It is copied.
    learning_rate : float, or callable
        α; or the number of the step, from 1 on, to α_t.
    columns, rows : int
        Of the sketch, as in `CountSketch`.
    k : int, optional
        How many weights change at a step. All of them, by default; nothing is left over then.
    exact : int
        Of how many coordinates the exact gradient is asked for in a second round. 0: there is none.
    betas, epsilon
        As in `AMSGrad`.
    seed : int
        Of the hashes.

    Raises
    ------
    InvalidArgument
        If an argument cannot work, or the sketch would be no shorter than the gradient.

    Examples
    --------
    >>> import numpy as np, codedmap as cm
    >>> target = np.zeros(1000)
    >>> target[:5] = 1.0, -2.0, 3.0, -4.0, 5.0
    >>> parts = [target + shift for shift in np.random.default_rng(0).standard_normal((6, 1000))]
    >>> code = cm.codes.CyclicGradientCode(workers=6, stragglers=1)
    >>> with cm.testing.Scripted(6, {3: cm.testing.never()}) as engine:
    ...     shards = cm.CodedParts(parts, code=code, engine=engine)
    ...     optimizer = cm.training.SketchedAMSGrad(np.zeros(1000), 0.01, columns=40, k=100)
    ...     for _ in range(200):
    ...         step = optimizer.step(lambda part, weights: weights - part, shards)
    >>> off = np.linalg.norm(optimizer.weights - np.mean(parts, axis=0)) / np.linalg.norm(target)
    >>> bool(off < 0.1), step.changed.size, step.received
    (True, 100, 8000)
    """

    def __init__(
        self,
        weights: Any,
        learning_rate: Rate,
        *,
        columns: int,
        rows: int = 5,
        k: int | None = None,
        exact: int = 0,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        seed: int = 0,
    ) -> None:
        super().__init__(Moments(weights, learning_rate, betas, epsilon))
        size = self._moments.weights.size
        self._sketch = CountSketch(size, columns, rows, check_whole("seed", seed, 0))
        self._k = _at_most("k", size if k is None else k, 1, size)
        self._exact = _at_most("exact", exact, 0, size)
        sent = self._sketch.numbers + self._exact
        if sent >= size:
            raise InvalidArgument(
                f"{rows} rows of {columns} columns and {exact} exact values are {sent} numbers, no fewer than "
                f"the {size} of the gradient: use fewer, or AMSGrad, which sends it as it is"
            )
        self._error = np.zeros_like(self._moments.weights)

    @property
    def error(self) -> np.ndarray:
        """e_t, what has not been applied so far: flat, not writable."""
        view = self._error.view()
        view.flags.writeable = False
        return view

    @property
    def sketch(self) -> CountSketch:
        """The sketch of the step that comes next: its hashes are that step's own."""
        seed = self._sketch.seed
        assert isinstance(seed, int)
        return replace(self._sketch, seed=(seed, self.steps + 1))

    def __repr__(self) -> str:
        return (
            f"<SketchedAMSGrad: {self._moments}; {self._sketch.numbers:,} numbers are sent, "
            f"{self._k:,} weights change at a step>"
        )

    def _made(
        self,
        gradient: Callable[..., Any],
        parts: CodedParts,
        sent: tuple[Any, ...],
        stop: StoppingRule | None,
    ) -> Step:
        sketch, shape = self.sketch, self.weights.shape
        told = added(_Sketched(gradient, sketch, shape), parts, args=sent, stop=stop)
        rounds = [told]
        found = self._moments.flat((sketch.estimate(told.value) / len(parts)).reshape(shape))
        if self._exact:
            asked = np.sort(self._largest(self._scaled(found)[1], self._exact))
            values = added(_Chosen(gradient, asked, shape), parts, args=sent, stop=stop)
            rounds.append(values)
            found[asked] = values.value / len(parts)
        changed = self._update(found)
        return Step(self.steps, tuple(rounds), changed)

    def _update(self, gradient: np.ndarray) -> np.ndarray:
        """Step 2 to 4; the places of the weights that changed."""
        moments = self._moments
        scaled, carried, kept = self._scaled(gradient)
        changed = np.sort(self._largest(scaled, self._k))
        change = np.zeros_like(carried)
        with np.errstate(over="ignore"):  # told when it is to be applied
            change[changed] = moments.rate * scaled[changed]
        moments.move(kept, change)
        carried[changed] = 0.0
        self._error = carried
        return changed

    def _scaled(
        self, gradient: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """a_t / √v̂_t, a_t, and the moments, if this were the gradient."""
        moments = self._moments
        first, second, largest = moments.after(gradient)
        before = moments.rate_of(self.steps) if self.steps else moments.rate
        carried = first + first.dtype.type(before / moments.rate) * self._error
        return carried / np.sqrt(largest), carried, (first, second, largest)

    @staticmethod
    def _largest(values: np.ndarray, count: int) -> np.ndarray:
        return np.argpartition(-np.abs(values), count - 1)[:count]


@dataclass(frozen=True, slots=True)
class _Sketched:
    """The sketch of a part's gradient; runs in the worker."""

    gradient: Callable[..., Any]
    sketch: CountSketch
    shape: tuple[int, ...]

    def __call__(self, part: Any, weights: np.ndarray, *args: Any) -> np.ndarray:
        return self.sketch(
            flattened(self.gradient(part, weights, *args), self.shape, weights.dtype)
        )


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A part's gradient at some coordinates; runs in the worker."""

    gradient: Callable[..., Any]
    places: np.ndarray
    shape: tuple[int, ...]

    def __call__(self, part: Any, weights: np.ndarray, *args: Any) -> np.ndarray:
        flat = flattened(self.gradient(part, weights, *args), self.shape, weights.dtype)
        chosen: np.ndarray = flat[self.places]
        return chosen


def _at_most(name: str, value: Any, least: int, most: int) -> int:
    if check_whole(name, value, least) > most:
        raise InvalidArgument(
            f"{name}={value} is more than the {most} weights: use at most as many"
        )
    return int(value)
