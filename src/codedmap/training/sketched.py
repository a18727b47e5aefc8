"""SketchedAMSGrad: workers send count sketches of gradients, the caller keeps the moments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..contracts.arguments import check_whole
from ..errors import InvalidArgument
from ..sums.shard import read_only
from .amsgrad import AMSGrad, Rate, flat_gradient
from .sketch import CountSketch


class SketchedAMSGrad(AMSGrad):
    """AMSGrad from count sketches of the gradients, a few weights at a step (arXiv 2210.07454).

    A worker sends ``sketch.numbers`` numbers instead of d. This works with every code of `codedmap.sum`,
    because sketches and codes are both linear. Step t, in the paper's symbols, on the mean g_t of the
    parts' gradients:

    1. S(g_t) is the sum of the workers' sketches, and g̃_t = U(S(g_t)) the gradient estimated from it.
    2. m_t = β₁ m_{t-1} + (1 - β₁) g̃_t; v_t = β₂ v_{t-1} + (1 - β₂) g̃_t²; v̂_t = max(v̂_{t-1}, v_t),
       from m₀ = 0 and v₀ = v̂₀ = ε.
    3. a_t = m_t + (α_{t-1} / α_t) e_{t-1}; Δ_t is a_t / √v̂_t at its k largest entries, 0 elsewhere.
    4. e_t = a_t - √v̂_t Δ_t is carried to the next step, so that nothing is lost:
       Σ α_s √v̂_s Δ_s + α_t e_t = Σ α_s m_s. Weights ← weights - α_t Δ_t.

    Of the paper, only the abstract and a catalogue's transcription of the variant that averages gradients
    were available. This implementation differs from them:

    - There each worker keeps its own m and e, and sends S(m_t + (α_{t-1} / α_t) e_{t-1}). Here workers
      keep no state, because several hold the same part and stragglers miss steps. The caller keeps m
      and e. The hashes of the sketch are drawn anew at every step, so that its errors do not add up in
      m and e. With fixed hashes, and m and e kept as sketches, which equals the paper's sum, training
      diverged in every experiment (docs/training.md).
    - The second moment's h_t, "the aggregated gradient coordinates", is g̃_t here.
    - The transcription subtracts Δ_t itself from e_t, although the two have different units: for entries
      with v̂ below 1/4 that grows without bound. Here √v̂_t Δ_t is subtracted.

    The weights travel to the workers in full with every call; only what comes back gets smaller.

    Parameters
    ----------
    weights : array_like
        Where to start; float32 or float64, of any shape, d numbers. It is copied.
    learning_rate : float, or callable
        α; or a function from the number of the step, from 1 on, to α_t.
    columns, rows : int
        Of the sketch, as in `CountSketch`.
    k : int, optional
        How many weights change at a step. By default all of them; the error e_t is 0 then.
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
    >>> bool(off < 0.1), step.changed.size, step.sum.received
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
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        seed: int = 0,
    ) -> None:
        super().__init__(weights, learning_rate, betas=betas, epsilon=epsilon)
        size = self._weights.size
        self._seed = check_whole("seed", seed, 0)
        self._sketch = CountSketch(size, columns, rows)
        self._k = size if k is None else check_whole("k", k, 1)
        if self._k > size:
            raise InvalidArgument(f"k={k} is more than the {size} weights: use at most as many")
        sent = self._sketch.numbers
        if sent >= size:
            raise InvalidArgument(
                f"{rows} rows of {columns} columns are {sent} numbers, no fewer than the {size} of the gradient: use "
                "fewer, or AMSGrad, which sends it as it is"
            )
        self._error = np.zeros_like(self._weights)

    @property
    def error(self) -> np.ndarray:
        """e_t, the part of the moments that has not been applied yet: flat, read-only."""
        return np.asarray(read_only(self._error))

    @property
    def sketch(self) -> CountSketch:
        """The sketch of the next step, with hashes of that step."""
        return replace(self._sketch, seed=(self._seed, self.steps + 1))

    def __repr__(self) -> str:
        return (
            f"<SketchedAMSGrad: {self._summary()}; {self._sketch.numbers:,} numbers are sent, "
            f"{self._k:,} weights change at a step>"
        )

    def _summed(self, gradient: Callable[..., Any]) -> Callable[..., Any]:
        return _SketchedGradient(gradient, self.sketch, self._shape)

    def _gradient_of(self, total: np.ndarray) -> np.ndarray:
        return self.sketch.estimate(total).reshape(self._shape)

    def _update(self, gradient: np.ndarray) -> np.ndarray:
        """Steps 2 to 4; the indices of the weights that changed."""
        moments = self._moments_after(gradient)
        first, _, largest = moments
        rate = self._next_rate
        before = self._rate_of(self.steps) if self.steps else rate
        carried = first + first.dtype.type(before / rate) * self._error  # a_t
        scaled = carried / np.sqrt(largest)
        changed = np.sort(np.argpartition(-np.abs(scaled), self._k - 1)[: self._k])
        change = np.zeros_like(carried)
        with np.errstate(over="ignore"):  # `_apply` raises where the weights become infinite
            change[changed] = rate * scaled[changed]
        self._apply(moments, change)
        carried[changed] = 0.0
        self._error = carried
        return changed


@dataclass(frozen=True, slots=True)
class _SketchedGradient:
    """The sketch of a part's gradient; runs in the worker."""

    gradient: Callable[..., Any]
    sketch: CountSketch
    shape: tuple[int, ...]

    def __call__(self, part: Any, weights: np.ndarray, *args: Any) -> np.ndarray:
        gradient = self.gradient(part, weights, *args)
        return self.sketch(flat_gradient(gradient, self.shape, weights.dtype))
