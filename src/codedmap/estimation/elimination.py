"""Taking answers out of P and P y, see `inverse`, without solving anew."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Predicted", "confirmed", "diagonal", "kept", "predicted", "without"]

_LEAST = 1e-12
"""Share of its row below which the pivot of an answer is rounding."""
_MATES = 0.5
"""Squared correlation from which two answers can confirm each other."""


class Predicted(NamedTuple):
    """What is out, as all others predict it; at most W are out of any group."""

    covariance: np.ndarray
    """(B, W, W), in units of s²."""
    error: np.ndarray
    """(B, W, q): of the prediction, 0 where there is none."""
    place: np.ndarray
    """(B, W): where each of the W stands."""
    valid: np.ndarray
    """(B, W) bool: whether it is one of those that are out, and anybody is left to predict it."""


def predicted(
    projected: np.ndarray, told: np.ndarray, out: np.ndarray, mute: np.ndarray
) -> Predicted:
    """What is out (B, F), as all others predict it; nothing in groups (B,) whose others are mute."""
    place = np.argsort(~out, axis=1, kind="stable")[:, : out.sum(axis=1).max()]
    # Of all answers to an unknown constant P is singular: whatever an inverse of it says is rounding.
    valid = np.take_along_axis(out, place, axis=1) & ~mute[:, None]
    group = np.arange(len(out))[:, None]
    block = projected[group[:, :, None], place[:, :, None], place[:, None]]
    block *= valid[:, :, None] & valid[:, None]
    block[:, np.arange(place.shape[1]), np.arange(place.shape[1])] += ~valid
    covariance = np.linalg.inv(block)
    error = covariance @ (told[group, place] * valid[:, :, None])
    return Predicted(covariance, error, place, valid)


def kept(projected: np.ndarray, told: np.ndarray, out: Predicted) -> tuple[np.ndarray, np.ndarray]:
    """P and P y of those that are not out."""
    beside = np.take_along_axis(projected, out.place[:, None], axis=2) * out.valid[:, None]
    rest = told - beside @ out.error
    return projected - beside @ out.covariance @ beside.transpose(0, 2, 1), rest


def without(projected: np.ndarray, told: np.ndarray, hit: np.ndarray) -> None:
    """Take answers (B, F) out of P and P y, one after the other."""
    hit = hit.copy()
    while (some := np.flatnonzero(hit.any(axis=1))).size:
        which = hit[some].argmax(axis=1)
        hit[some, which] = False
        row = projected[some, which]
        pivot = row[np.arange(len(some)), which]
        # What rounding has left of one that is not known any more must not spoil the others.
        known = pivot > _LEAST * np.abs(row).max(axis=1)
        share = row * (known / np.where(known, pivot, 1.0))[:, None]
        told[some] -= share[:, :, None] * told[some, which][:, None]
        projected[some] -= share[:, :, None] * row[:, None]
        projected[some, which] = projected[some, :, which] = told[some, which] = 0.0


def diagonal(matrices: np.ndarray) -> np.ndarray:
    """Of each matrix."""
    return np.diagonal(matrices, axis1=1, axis2=2)


def confirmed(covariance: np.ndarray, error: np.ndarray, limit: np.ndarray) -> np.ndarray:
    """Which pairs (B, W, W) are near each other, and each as the other one predicts it."""
    variance = np.maximum(diagonal(covariance), 1e-300)
    products = error @ error.transpose(0, 2, 1)
    squares = diagonal(products)
    slope = covariance / variance[:, None]  # of i on j
    rest = squares[:, :, None] - 2.0 * slope * products + slope**2 * squares[:, None]
    left = np.maximum(variance[:, :, None] - slope * covariance, 1e-300)
    near = slope * covariance > _MATES * variance[:, :, None]
    one_way = near & (rest < limit[:, None, None] * left)
    pairs: np.ndarray = one_way & one_way.transpose(0, 2, 1)
    pairs[:, np.arange(error.shape[1]), np.arange(error.shape[1])] = False
    return pairs
