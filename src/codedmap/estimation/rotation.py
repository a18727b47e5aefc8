"""Processes along other directions than those of the inputs.

A length scale for each input does not describe a wave, a ramp or a jump across several inputs. The directions are the
principal ones of the gradients of a process, along which it changes most (an active subspace; Constantine, Dow and
Wang 2014).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from .gaussian import AGAIN, NOISY, Fitted, likeliest
from .models import EACH, Model
from .points import Points

_ANSWERS = 50  # answers, at least
_ROTATIONS = 2  # how often directions are found, each time from the gradients of the process along the last ones
_IDLE = 0.02  # share of the largest scale that each direction has at least where a search begins
_QUARTERS = 4  # parts of the answers, each of which judges directions that the others have chosen
_CHOSEN = 225  # answers, at most, that choose directions then
_APART = 200  # answers beside those that choose, from which they judge, once
_SURELY = 0.9  # errors along the directions, over those before, from which the directions are taken


def rotated(known: Points, scaled: np.ndarray, best: Model, seconds: float) -> Model | None:
    """The best process of an output (n,), with other directions as dimensions.

    None if answers that have not chosen the directions are hardly nearer so, if answers are too few, or if so many
    ``seconds`` are not enough.
    """
    (size, dimensions), few, go_on = known.points.shape, known.first, known.within(seconds)
    if dimensions < 2 or size < max(_ANSWERS, EACH * dimensions):
        return None
    moved = best.transform.there(scaled)
    there = ((moved - moved.mean()) / moved.std())[:, None]

    def along(chosen: np.ndarray) -> tuple[Fitted, Points, Fitted]:
        """The process that has seen the answers chosen (c,) int, points in the directions that these choose, and the process there."""
        points, fitted = known, Fitted(known.points[chosen], there[chosen], best.kernel)
        before = fitted
        for _ in range(_ROTATIONS):
            gradients, kernel = fitted.gradients(), fitted.kernel
            strengths, directions = np.linalg.eigh(gradients.T @ gradients)
            strengths = np.maximum(strengths, max(_IDLE**2 * strengths[-1], 1e-300))
            scales = np.sqrt(strengths / strengths.sum()) * np.linalg.norm(kernel.scales)
            begin = replace(kernel, scales=scales, noise=max(kernel.noise, NOISY))
            points = points.rotated(directions)
            some = points.points[chosen]
            found = likeliest(some, there[chosen], [begin], steps=AGAIN, go_on=go_on)
            fitted = Fitted(some, there[chosen], found)
        return before, points, fitted

    once = size - len(few) >= _APART
    if once:
        parts = [(few, known.order[len(few) : 2 * len(few)])]
    else:
        quarter = np.arange(size) % _QUARTERS
        parts = [
            (known.order[quarter != one][:_CHOSEN], known.order[quarter == one])
            for one in range(_QUARTERS)
        ]
    squares: list[list[np.ndarray]] = [[], []]
    for chosen, others in parts:
        before, points, after = along(chosen)
        for off, place, fitted in zip(squares, (known, points), (before, after), strict=True):
            off.append((there[others] - fitted.predict(place.points[others])[0]) ** 2)
        was, now = (float(np.sqrt(np.concatenate(off).mean())) for off in squares)
        if not go_on() or (len(squares[0]) == _QUARTERS // 2 and now > was):
            return None
    if now > _SURELY * was:
        return None
    if not once:
        before, points, after = along(few)
        if not go_on():
            return None
    # Answers that have chosen directions are nearer to the process than others.
    left_out = [float((fitted.left_out()[0] ** 2).mean()) for fitted in (before, after)]
    overfit = max(1.0, now / was * math.sqrt(left_out[0] / max(left_out[1], 1e-300)))
    return replace(
        best,
        error=best.error * now / was,
        answers=len(few),
        kernel=after.kernel,
        known=points,
        overfit=1.0 + (overfit - 1.0) * len(few) / size,
    )
