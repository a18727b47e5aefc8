"""Simulators that were chosen when the estimator was frozen, on which it is judged once: four, and four later ones.

The first four were looked at when directions other than those of the inputs were added.
"""

from __future__ import annotations

import numpy as np
import scipy

from .simulators import Simulator, solved

__all__ = ["LATER", "SIMULATORS"]


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


def _reactor(x: np.ndarray) -> np.ndarray:
    """Conversion, last and highest temperature of a stirred tank with a reaction that heats it, which may ignite."""
    feed, flow, heat, energy, cooling, coolant = x.T

    def slope(state: np.ndarray) -> np.ndarray:
        left, warm = state
        rate = 7.2e10 * np.exp(-energy / warm) * left
        return np.stack(
            [
                flow * (1.0 - left) - rate,
                flow * (feed - warm) + heat * rate - cooling * (warm - coolant),
            ]
        )

    seen = solved(slope, np.stack([np.full(len(x), 0.5), feed]), 0.002, 5_000)
    return np.stack([1.0 - seen[-1, 0], seen[-1, 1], seen[:, 1].max(axis=0)], axis=1)


def _solar_cell(x: np.ndarray) -> np.ndarray:
    """Largest power and open voltage of a solar cell (one diode, with both resistances)."""
    light, warm, series, shunt, ideality, dark = x.T
    thermal, current = ideality * 8.617e-5 * warm, 8.0 * light
    dark = (
        10.0**dark * (warm / 300) ** 3 * np.exp(1.12 / 8.617e-5 * (1 / 300 - 1 / warm) / ideality)
    )

    def given(voltage: np.ndarray) -> np.ndarray:
        both = series + shunt
        inner = series * shunt * dark / (thermal * both)
        inner = inner * np.exp(shunt * (series * (current + dark) + voltage) / (thermal * both))
        whole = (shunt * (current + dark) - voltage) / both
        return whole - thermal / series * scipy.special.lambertw(inner).real

    voltages = np.linspace(0.0, 1.3, 400)[:, None]
    currents = given(voltages)
    opened = [np.interp(0.0, -one, voltages[:, 0]) for one in currents.T]
    return np.stack([(voltages * currents).max(axis=0), opened], axis=1)


def _flight(x: np.ndarray) -> np.ndarray:
    """How far, and how high, a ball flies with drag and wind."""
    speed, angle, mass, width, drag, wind = x.T
    push = 0.5 * 1.2 * drag * np.pi * (width / 2) ** 2 / mass

    def slope(state: np.ndarray) -> np.ndarray:
        _, high, along, up = state
        still = (high < 0) & (up < 0)
        relative = along - wind
        size = push * np.hypot(relative, up)
        return np.where(still, 0.0, np.stack([along, up, -size * relative, -9.81 - size * up]))

    zero = np.zeros(len(x))
    begin = np.stack([zero, zero + 1.0, speed * np.cos(angle), speed * np.sin(angle)])
    seen = solved(slope, begin, 0.02, 800)
    return np.stack([seen[-1, 0], seen[:, 1].max(axis=0)], axis=1)


def _cantilever(x: np.ndarray) -> np.ndarray:
    """Displacement and stress of a cantilever beam (Wu and others)."""
    strength, modulus, across, up, wide, thick = x.T
    length = 100.0
    stress = 600 * up / (wide * thick**2) + 600 * across / (wide**2 * thick)
    bent = 4 * length**3 / (modulus * wide * thick) * np.hypot(up / thick**2, across / wide**2)
    return np.stack([bent, np.maximum(0.0, stress - strength)], axis=1)


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

LATER: dict[str, Simulator] = {
    one.name: one
    for one in (
        Simulator("reactor", "stirred tank reactor", _reactor, (330, 0.8, 180, 8600, 1.5, 280), (370, 1.2, 240, 8900, 3.0, 320),
                  ("conversion", "temperature", "highest")),
        Simulator("solar-cell", "solar cell", _solar_cell, (0.1, 270, 0.001, 2, 1.0, -10), (1.1, 350, 0.03, 100, 1.6, -8),
                  ("power", "voltage")),
        Simulator("flight", "ball with drag and wind", _flight, (10, 0.2, 0.05, 0.04, 0.2, -8), (60, 1.4, 0.6, 0.25, 0.6, 8),
                  ("range", "height")),
        Simulator("cantilever", "cantilever beam", _cantilever, (20_000, 2.4e7, 100, 600, 2.2, 3.2), (50_000, 3.4e7, 900, 1_400, 3.2, 4.4),
                  ("displacement", "overload")),
    )
}  # fmt: skip
"""By name: those chosen after directions other than those of the inputs were added."""
