"""The experiments by name, in the order of the page."""

from __future__ import annotations

from . import (
    byzantine,
    clusters,
    gradients,
    latency,
    pictures,
    planned,
    polar,
    rates,
    sensitivity,
    serving,
    stragglers,
    table,
)
from .harness import Experiment

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (
        rates.EXPERIMENT,
        table.EXPERIMENT,
        planned.EXPERIMENT,
        byzantine.EXPERIMENT,
        stragglers.EXPERIMENT,
        sensitivity.EXPERIMENT,
        pictures.EXPERIMENT,
        latency.EXPERIMENT,
        serving.EXPERIMENT,
        gradients.EXPERIMENT,
        polar.EXPERIMENT,
        clusters.EXPERIMENT,
    )
}
