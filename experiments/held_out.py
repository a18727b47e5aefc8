"""Four simulators that no development has used: estimates are judged on them once, when the estimator is frozen."""

from __future__ import annotations

import numpy as np

from .simulators import Simulator, solved

__all__ = ["SIMULATORS"]


def _flood(x: np.ndarray) -> np.ndarray:
    """Height of a river above its dike, and the cost of a year (Chastaing and others)."""
    flow, roughness, below, above, dike, bank, length, width = x.T
    deep = (flow / (width * roughness * np.sqrt((above - below) / length))) ** 0.6
    over = below + deep - dike - bank
    cost = (over > 0) + np.where(
        over > 0, 0.0, 0.2 + 0.8 * (1 - np.exp(-1000 / np.minimum(over, -1e-6) ** 4))
    )
    return np.stack([over, cost + np.maximum(dike, 8.0) / 20], axis=1)


def _predators(x: np.ndarray) -> np.ndarray:
    """Means of prey and predators (Rosenzweig and MacArthur) over a long time, and the largest number of prey."""
    growth, room, attack, handling, gain, death = x.T

    def slope(state: np.ndarray) -> np.ndarray:
        prey, predators = state
        eaten = attack * prey / (1 + attack * handling * prey) * predators
        return np.stack(
            [growth * prey * (1 - prey / room) - eaten, gain * eaten - death * predators]
        )

    seen = solved(slope, np.stack([0.5 * room, np.ones(len(x))]), 0.05, 4_000)[1_000:]
    return np.stack([*seen.mean(axis=0), seen[:, 0].max(axis=0)], axis=1)


def _column(x: np.ndarray) -> np.ndarray:
    """Limit state of a steel column with an imperfection (Eurocode; nine inputs)."""
    yields, dead, live, snow, width, flange, height, crooked, modulus = x.T
    load, length = dead + live + snow, 7_500.0
    area, section = 2 * width * flange, width * flange * height
    inertia = 0.5 * width * flange * height**2
    critical = np.pi**2 * modulus * inertia / length**2
    return yields - load * (1 / area + crooked / section * critical / (critical - load))


def _humid_air(x: np.ndarray) -> np.ndarray:
    """Wet-bulb temperature, dew point and enthalpy of humid air (CoolProp)."""
    from CoolProp.HumidAirProp import HAPropsSI  # noqa: PLC0415

    return np.array([
        [HAPropsSI(what, "T", heat, "P", 1e3 * pressure, "R", humidity) for what in ("Twb", "Tdp", "Hda")]
        for heat, pressure, humidity in x
    ])  # fmt: skip


SIMULATORS: dict[str, Simulator] = {
    one.name: one
    for one in (
        Simulator("flood", "flood", _flood, (500, 15, 49, 54, 7, 55, 4990, 295), (3000, 45, 51, 56, 9, 56, 5010, 305),
                  ("overflow", "cost")),
        Simulator("predators", "predators and prey", _predators, (0.5, 1, 0.5, 0.2, 0.3, 0.1), (1.5, 5, 2, 1, 0.8, 0.4),
                  ("prey", "predators", "most prey")),
        Simulator("column", "steel column", _column,
                  (300, 4e5, 4e5, 4e5, 280, 15, 290, 10, 2e5), (500, 6e5, 8e5, 8e5, 320, 25, 310, 50, 2.2e5), ("limit",)),
        Simulator("humid-air", "humid air (CoolProp)", _humid_air, (263, 60, 0.05), (323, 110, 1.0),
                  ("wet bulb", "dew point", "enthalpy"), needs=("CoolProp",)),
    )
}  # fmt: skip
"""By name."""
