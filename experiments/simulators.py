"""Simulators on which estimates are judged, each with its ranges; answers are kept on disk."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy.integrate import solve_ivp
from scipy.stats import norm, qmc

from . import data, functions, hbv

__all__ = ["SIMULATORS", "Simulator", "Unavailable", "design", "solved", "table"]

Call = Callable[[np.ndarray], np.ndarray]


class Unavailable(RuntimeError):
    """A simulator cannot run here; the message names what it needs."""


@dataclass(frozen=True)
class Simulator:
    """A deterministic function of a row of numbers.

    Parameters
    ----------
    name, title : str
    call : callable
        Maps inputs (m, d) to answers (m, q).
    low, high : tuple of float
        Ranges of the inputs.
    outputs : tuple of str
        Names of the q outputs.
    needs : tuple of str
        Modules, or files in `data.FILES`.
    most : int
        Largest number of rows; fewer where a row takes long.
    given : callable, optional
        Returns inputs (n, d), the first of which are used in place of a design over the ranges.
    version : int
        Raised when the answers change; answers of other versions are computed again.
    """

    name: str
    title: str
    call: Call
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    outputs: tuple[str, ...] = ("y",)
    needs: tuple[str, ...] = ()
    most: int = 5_000
    given: Callable[[], np.ndarray] | None = None
    version: int = 1

    def lacking(self) -> list[str]:
        """What it needs and is not here."""
        return [
            need for need in self.needs
            if (data.find(need) is None if need in data.FILES else importlib.util.find_spec(need) is None)
        ]  # fmt: skip


def design(simulator: Simulator, rows: int) -> np.ndarray:
    """Inputs (rows, d): a Latin hypercube of up to 500 rows, the first points of a Sobol sequence beyond."""
    if simulator.given is not None:
        return np.asarray(simulator.given()[:rows], np.float64)
    low, high = np.array(simulator.low), np.array(simulator.high)
    if rows <= 500:
        unit = qmc.LatinHypercube(len(low), rng=1).random(rows)
    else:
        unit = qmc.Sobol(len(low), rng=1).random_base2(int(np.ceil(np.log2(rows))))[:rows]
    return low + unit * (high - low)


def table(simulator: Simulator, rows: int, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (m, d) and answers (m, q) of a simulator; answers are computed once and kept in the cache.

    Raises
    ------
    Unavailable
        If the answers are not kept and what the simulator needs is not here.
    """
    # A file a size: inputs that come with a package or a data set need not be here to read it.
    path = cache / "answers" / f"{simulator.name}-{rows}-v{simulator.version}.npz"
    if path.exists():
        with np.load(path) as kept:
            return kept["X"], kept["y"]
    lacking = simulator.lacking()
    if lacking:
        raise Unavailable(
            f"{simulator.name} needs {', '.join(lacking)}, which is not here, and its answers are not in {path}: "
            "pip install -e '.[simulators]' for packages, CODEDMAP_DATA or --data for data"
        )
    X = design(simulator, rows)
    y = np.asarray(simulator.call(X), np.float64).reshape(len(X), -1)[:, : len(simulator.outputs)]
    if y.shape != (len(X), len(simulator.outputs)) or not np.isfinite(y).all():
        raise ValueError(
            f"{simulator.name} answered {y.shape} for {len(X)} rows and {len(simulator.outputs)} outputs, "
            f"{np.count_nonzero(~np.isfinite(y))} of them not finite: a simulator answers (m, q) finite numbers"
        )
    save(path, X=X, y=y)
    return X, y


def save(path: Path, **arrays: np.ndarray) -> None:
    """Write arrays atomically: other processes fill the same cache."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    temporary.replace(path)


def digest(*arrays: np.ndarray) -> str:
    """Checksum of arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def solved(
    slope: Callable[[np.ndarray], np.ndarray], state: np.ndarray, step: float, steps: int
) -> np.ndarray:
    """States (steps + 1, ...) of the classical Runge-Kutta method."""
    seen = [state]
    for _ in range(steps):
        first = slope(state)
        second = slope(state + step / 2 * first)
        third = slope(state + step / 2 * second)
        fourth = slope(state + step * third)
        state = state + step / 6 * (first + 2 * second + 2 * third + fourth)
        seen.append(state)
    return np.stack(seen)


def _borehole(x: np.ndarray) -> np.ndarray:
    """Flow of water through a borehole (Harper and Gupta)."""
    rw, r, tu, hu, tl, hl, length, kw = x.T
    log = np.log(r / rw)
    return 2 * np.pi * tu * (hu - hl) / (log * (1 + 2 * length * tu / (log * rw**2 * kw) + tu / tl))


def _ishigami(x: np.ndarray) -> np.ndarray:
    return np.sin(x[:, 0]) + 7 * np.sin(x[:, 1]) ** 2 + 0.1 * x[:, 2] ** 4 * np.sin(x[:, 0])


def _piston(x: np.ndarray) -> np.ndarray:
    """Cycle time of a piston (Kenett and Zacks)."""
    mass, area, volume, k, pressure, ambient, filling = x.T
    a = pressure * area + 19.62 * mass - k * volume / area
    v = area / (2 * k) * (np.sqrt(a**2 + 4 * k * pressure * volume / filling * ambient) - a)
    return 2 * np.pi * np.sqrt(mass / (k + area**2 * pressure * volume / filling * ambient / v**2))


def _sir(x: np.ndarray) -> np.ndarray:
    """An epidemic of a year: peak, day of the peak, share ever infected, first day with 1 % infected."""
    contacts, period, share, immune = x.T

    def slope(state: np.ndarray) -> np.ndarray:
        well, ill = state
        new, over = contacts * well * ill, ill / period
        return np.stack([-new, new - over])

    well, ill = solved(slope, np.stack([1 - share - immune, share]), 0.5, 730)[:, :].transpose(
        1, 0, 2
    )
    top = ill.argmax(axis=0)
    above = ill >= 0.01
    first = np.where(above.any(axis=0), above.argmax(axis=0), 730)
    return np.stack([ill.max(axis=0), top / 2, 1 - immune - well[-1], first / 2], axis=1)


def _wing(x: np.ndarray) -> np.ndarray:
    """Weight of a wing of a light aircraft (Forrester)."""
    area, fuel, aspect, sweep, pressure, taper, thick, load, design_weight, paint = x.T
    cosine = np.cos(np.radians(sweep))
    return (
        0.036 * area**0.758 * fuel**0.0035 * (aspect / cosine**2) ** 0.6 * pressure**0.006
        * taper**0.04 * (100 * thick / cosine) ** -0.3 * (load * design_weight) ** 0.49 + area * paint
    )  # fmt: skip


def _otl(x: np.ndarray) -> np.ndarray:
    """Voltage of a push-pull circuit without output transformer."""
    rb1, rb2, rf, rc1, rc2, beta = x.T
    base = 12 * rb2 / (rb1 + rb2)
    gain = beta * (rc2 + 9)
    return (
        (base + 0.74) * gain / (gain + rf)
        + 11.35 * rf / (gain + rf)
        + 0.74 * rf * gain / ((gain + rf) * rc1)
    )


def _spill(x: np.ndarray) -> np.ndarray:
    """Concentration after two spills into a channel, at two places and times (Bliznyuk)."""
    mass, diffusion, away, later = x.T
    found = []
    for place, time in ((0.5, 20.0), (1.5, 35.0)):
        first = (
            mass
            / np.sqrt(4 * np.pi * diffusion * time)
            * np.exp(-(place**2) / (4 * diffusion * time))
        )
        since = np.maximum(time - later, 1e-9)
        second = (
            mass
            / np.sqrt(4 * np.pi * diffusion * since)
            * np.exp(-((place - away) ** 2) / (4 * diffusion * since))
        )
        found.append(np.sqrt(4 * np.pi) * (first + np.where(later < time, second, 0.0)))
    return np.stack(found, axis=1)


def _arm(x: np.ndarray) -> np.ndarray:
    """Distance of the end of a robot arm of four segments from its shoulder."""
    angles, lengths = np.cumsum(x[:, :4], axis=1), x[:, 4:]
    return np.hypot((lengths * np.cos(angles)).sum(axis=1), (lengths * np.sin(angles)).sum(axis=1))


def _robertson(x: np.ndarray) -> np.ndarray:
    """Concentrations after 40 s of Robertson's stiff reactions, from the logarithms of three rates."""
    found = []
    for a, b, c in 10.0**x:

        def slope(_: float, y: np.ndarray, a: float = a, b: float = b, c: float = c) -> list[float]:
            one, two = a * y[0], c * y[1] * y[2]
            three = b * y[1] ** 2
            return [two - one, one - two - three, three]

        end = solve_ivp(slope, (0.0, 40.0), [1.0, 0.0, 0.0], "LSODA", rtol=1e-7, atol=1e-10).y[
            :, -1
        ]
        found.append([end[0], np.log10(end[1])])
    return np.array(found)


def _lorenz(x: np.ndarray) -> np.ndarray:
    """Mean height and largest excursion of the Lorenz system over 20 time units: chaotic."""
    sigma, rho, beta = x.T

    def slope(state: np.ndarray) -> np.ndarray:
        a, b, c = state
        return np.stack([sigma * (b - a), a * (rho - c) - b, a * b - beta * c])

    seen = solved(slope, np.ones((3, len(x))), 0.01, 2_500)[500:]
    return np.stack([seen[:, 2].mean(axis=0), np.abs(seen[:, 0]).max(axis=0)], axis=1)


def _g(x: np.ndarray) -> np.ndarray:
    """Sobol's g-function of 20 inputs, three of which matter much."""
    a = np.array([0.0, 0.5, 1.0, 3.0, 6.0, *[20.0] * 5, *[99.0] * 10])
    return np.prod((np.abs(4 * x - 2) + a) / (1 + a), axis=1)


def _friedman(x: np.ndarray) -> np.ndarray:
    """Friedman's first function: five of ten inputs matter."""
    return (
        10 * np.sin(np.pi * x[:, 0] * x[:, 1])
        + 20 * (x[:, 2] - 0.5) ** 2
        + 10 * x[:, 3]
        + 5 * x[:, 4]
    )


def _medium(x: np.ndarray) -> np.ndarray:
    """Steady flow through a column whose log permeability is a Brownian path: log flux, and pressure in the middle.

    The inputs are the terms of its Karhunen-Loève expansion.
    """
    place, term = np.linspace(0.0, 1.0, 201), np.arange(x.shape[1]) + 0.5
    paths = np.sqrt(2.0) * np.sin(np.pi * term[:, None] * place) / (np.pi * term[:, None])
    resistance = np.exp(-1.5 * x @ paths)
    passed = np.cumsum((resistance[:, 1:] + resistance[:, :-1]) / 400.0, axis=1)
    return np.stack([-np.log(passed[:, -1]), passed[:, 99] / passed[:, -1]], axis=1)


def _threshold(x: np.ndarray) -> np.ndarray:
    """A smooth function that jumps on a curved surface, and which side a point is on."""
    beyond = x[:, 0] + x[:, 1] ** 2 > 0.8 + 0.2 * np.sin(5 * x[:, 2])
    smooth = np.sin(3 * x[:, 0]) + x[:, 3] * x[:, 4]
    return np.stack([smooth + 2.0 * beyond, beyond.astype(float)], axis=1)


def _spring(x: np.ndarray) -> np.ndarray:
    """Place and speed of a damped spring after a time of several oscillations."""
    mass, damping, stiff, time = x.T
    decay = damping / (2 * mass)
    angle = np.sqrt(stiff / mass - decay**2)
    wave = np.exp(-decay * time)
    return np.stack([
        wave * (np.cos(angle * time) + decay / angle * np.sin(angle * time)),
        -wave * stiff / mass / angle * np.sin(angle * time),
    ], axis=1)  # fmt: skip


def _queue(x: np.ndarray) -> np.ndarray:
    """Mean and longest wait of 300 customers of a queue: random, drawn anew for each row."""
    gap, service = np.stack([
        np.random.default_rng(zlib.crc32(row.tobytes())).exponential(size=(2, 300)) for row in x
    ]).transpose(1, 2, 0)  # fmt: skip
    between, busy, spread = x.T
    # A lognormal service time of mean `busy`.
    service = busy * np.exp(spread * norm.ppf(-np.expm1(-service)) - spread**2 / 2)
    wait, total, longest = (np.zeros(len(x)) for _ in range(3))
    for customer in range(300):
        wait = np.maximum(wait + service[customer] - between * gap[customer], 0.0)
        total += wait
        longest = np.maximum(longest, wait)
    return np.stack([total / 300, longest], axis=1)


def _rough(x: np.ndarray) -> np.ndarray:
    """A wave too short for the sample: nothing beats the mean."""
    return np.sin(40.0 * x.sum(axis=1) + 25.0 * x[:, 0] * x[:, 1])


def _heat_pump(x: np.ndarray) -> np.ndarray:
    """A heat pump with R134a (CoolProp): coefficient of performance, discharge temperature."""
    from CoolProp.CoolProp import PropsSI  # noqa: PLC0415

    found = []
    for evaporates, condenses, superheat, subcooling, efficiency in x:
        low = PropsSI("P", "T", evaporates, "Q", 1, "R134a")
        high = PropsSI("P", "T", condenses, "Q", 1, "R134a")
        at = ("T", evaporates + superheat, "P", low, "R134a")
        sucked, entropy = PropsSI("H", *at), PropsSI("S", *at)
        pressed = sucked + (PropsSI("H", "P", high, "S", entropy, "R134a") - sucked) / efficiency
        liquid = PropsSI("H", "T", condenses - subcooling, "P", high, "R134a")
        hot = PropsSI("T", "P", high, "H", pressed, "R134a")
        found.append([(pressed - liquid) / (pressed - sucked), hot])
    return np.array(found)


def _carbon_dioxide(x: np.ndarray) -> np.ndarray:
    """Logarithmic density and sound speed of CO2 (CoolProp) around its saturation line."""
    from CoolProp.CoolProp import PropsSI  # noqa: PLC0415

    temperature, pressure = x[:, 0], 1e6 * x[:, 1]
    density, sound = (
        np.asarray(PropsSI(what, "T", temperature, "P", pressure, "CO2")) for what in "DA"
    )
    return np.stack([np.log10(density), sound], axis=1)


def _pipe(x: np.ndarray) -> np.ndarray:
    """Pressure drop and friction factor of a pipe (fluids), laminar and turbulent."""
    from fluids.friction import friction_factor  # noqa: PLC0415

    found = []
    for diameter, length, speed, log_viscosity, log_roughness in x:
        reynolds = 1_000 * speed * diameter / 10**log_viscosity
        factor = friction_factor(Re=reynolds, eD=10**log_roughness / diameter)
        found.append([np.log10(factor * length / diameter * 500 * speed**2), factor])
    return np.array(found)


def _control_valve(x: np.ndarray) -> np.ndarray:
    """Flow coefficient of a control valve for gas (fluids), choked or not; logarithm."""
    from fluids.control_valve import size_control_valve_g  # noqa: PLC0415

    return np.array([
        np.log10(size_control_valve_g(T=t, MW=mass, mu=1.5e-5, gamma=gamma, Z=0.99, P1=1e5 * p,
                                      P2=1e5 * p * ratio, Q=flow, D1=0.1, D2=0.1, d=0.08, FL=0.85, Fd=0.42, xT=0.6))
        for t, mass, gamma, p, ratio, flow in x
    ])  # fmt: skip


def _ignition(x: np.ndarray) -> np.ndarray:
    """Hydrogen in air (Cantera): logarithmic delay of ignition, temperature and logarithmic OH after 10 ms."""
    import cantera as ct  # noqa: PLC0415

    gas = ct.Solution("h2o2.yaml")
    found = []
    for temperature, log_pressure, ratio, diluted in x:
        gas.set_equivalence_ratio(ratio, "H2", {"O2": 1.0, "N2": 3.76 + diluted})
        gas.TP = temperature, 10**log_pressure
        reactor = ct.IdealGasReactor(gas, clone=False)
        network = ct.ReactorNet([reactor])
        seen = [(0.0, temperature, 0.0)]
        while seen[-1][0] < 0.01:
            seen.append((network.step(), reactor.T, gas["OH"].X[0]))
        times, heats, hydroxyl = np.array(seen).T
        steep = int(np.argmax(np.diff(heats) / np.diff(times)))
        # The last step ends beyond 10 ms.
        end, radicals = (np.interp(0.01, times, one) for one in (heats, hydroxyl))
        delay = times[steep + 1] if end > temperature + 50 else 0.01
        found.append([np.log10(delay), end, np.log10(max(radicals, 1e-9))])
    return np.array(found)


def _battery(x: np.ndarray) -> np.ndarray:
    """Discharge of a lithium-ion cell (PyBaMM, single-particle model): capacity, mean voltage."""
    os.environ.setdefault("PYBAMM_DISABLE_TELEMETRY", "true")
    import pybamm  # noqa: PLC0415

    names = (
        "Current function [A]", "Ambient temperature [K]", "Positive particle diffusivity [m2.s-1]",
        "Negative particle diffusivity [m2.s-1]", "Positive electrode active material volume fraction",
        "Initial concentration in negative electrode [mol.m-3]",
    )  # fmt: skip
    parameters = pybamm.ParameterValues("Chen2020")
    parameters.update(dict.fromkeys(names, "[input]"))
    simulation = pybamm.Simulation(pybamm.lithium_ion.SPMe(), parameter_values=parameters)
    found = []
    x = np.concatenate([x[:, :2], 10 ** x[:, 2:4], x[:, 4:]], axis=1)
    for row in x:
        done = simulation.solve(
            [0, 1.5 * 3600 * 5 / row[0]], inputs=dict(zip(names, row, strict=True))
        )
        voltage = np.trapezoid(done["Voltage [V]"].entries, done.t) / done.t[-1]
        found.append([done["Discharge capacity [A.h]"].entries[-1], voltage])
    return np.array(found)


def _answers_of(name: str, x: np.ndarray) -> np.ndarray:
    return np.asarray(functions.FUNCTIONS[name].load(False)[0](x), np.float64)


def _inputs_of(name: str) -> np.ndarray:
    inputs = functions.FUNCTIONS[name].load(False)[1]
    return inputs[np.random.RandomState(0).permutation(len(inputs))]


def _saltelli(low: tuple[float, ...], high: tuple[float, ...]) -> np.ndarray:
    """Saltelli's design for sensitivities: rows that share all inputs but one, or one."""
    d = len(low)
    both = qmc.Sobol(2 * d, rng=1).random_base2(7)
    first, second = both[:, :d], both[:, d:]
    rows = [first, *(np.where(np.arange(d) == i, second, first) for i in range(d)), second]
    unit = np.stack(rows, axis=1).reshape(-1, d)
    return np.array(low) + unit * (np.array(high) - np.array(low))


def _grid(low: tuple[float, ...], high: tuple[float, ...]) -> np.ndarray:
    """A full grid of 1,000 points of three inputs, the last of which varies fastest."""
    sides = np.meshgrid(*np.linspace(low, high, 10).T, indexing="ij")
    return np.stack(sides, axis=-1).reshape(-1, len(low))


def _of_functions(name: str, outputs: int, most: int = 5_000) -> Simulator:
    """A function of the planned experiment, with its first outputs."""
    return Simulator(
        name, functions.FUNCTIONS[name].title, partial(_answers_of, name), most=most,
        outputs=tuple(f"y{i}" for i in range(outputs)), given=partial(_inputs_of, name),
    )  # fmt: skip


SIMULATORS: dict[str, Simulator] = {
    one.name: one
    for one in (
        Simulator("hbv", "HBV-SASK, Bow at Banff", hbv.call, *zip(*hbv.RANGES.values(), strict=True),
                  outputs=hbv.OUTPUTS, needs=("hbv-banff.npz",)),
        Simulator("hbv-saltelli", "HBV-SASK, Saltelli's design", hbv.call, outputs=hbv.OUTPUTS, needs=("hbv-banff.npz",),
                  given=partial(_saltelli, *zip(*hbv.RANGES.values(), strict=True)), most=1_000),
        Simulator("borehole", "borehole", _borehole, (0.05, 100, 63070, 990, 63.1, 700, 1120, 9855),
                  (0.15, 50_000, 115_600, 1110, 116, 820, 1680, 12_045), ("flow",)),
        Simulator("ishigami", "Ishigami", _ishigami, (-np.pi,) * 3, (np.pi,) * 3),
        Simulator("ishigami-grid", "Ishigami, full grid", _ishigami, most=1_000,
                  given=partial(_grid, (-np.pi,) * 3, (np.pi,) * 3)),
        Simulator("piston", "piston", _piston, (30, 0.005, 0.002, 1000, 90_000, 290, 340),
                  (60, 0.02, 0.01, 5000, 110_000, 296, 360), ("cycle",)),
        Simulator("sir", "SIR epidemic", _sir, (0.1, 3, 1e-5, 0.0), (0.6, 14, 1e-3, 0.5),
                  ("peak", "peak day", "size", "first 1 %")),
        Simulator("wing", "wing weight", _wing, (150, 220, 6, -10, 16, 0.5, 0.08, 2.5, 1700, 0.025),
                  (200, 300, 10, 10, 45, 1, 0.18, 6, 2500, 0.08), ("weight",)),
        Simulator("otl", "OTL circuit", _otl, (50, 25, 0.5, 1.2, 0.25, 50), (150, 70, 3, 2.5, 1.2, 300), ("voltage",)),
        Simulator("spill", "spill into a channel", _spill, (7, 0.02, 0.01, 30.01), (13, 0.12, 3, 30.295),
                  ("near", "middle")),
        Simulator("arm", "robot arm", _arm, (0.0,) * 8, (*[2 * np.pi] * 4, *[1.0] * 4), ("reach",)),
        Simulator("robertson", "Robertson, stiff", _robertson, (-2.0, 6.9, 3.4), (-0.8, 8.1, 4.6), ("A", "log B")),
        Simulator("lorenz", "Lorenz, chaotic", _lorenz, (8, 20, 1.5), (12, 60, 4), ("mean z", "max x")),
        Simulator("g20", "g-function, 20 inputs", _g, (0.0,) * 20, (1.0,) * 20),
        Simulator("friedman", "Friedman 1, 10 inputs", _friedman, (0.0,) * 10, (1.0,) * 10),
        Simulator("medium", "random medium, 50 inputs", _medium, (-(3.0**0.5),) * 50, (3.0**0.5,) * 50, ("log flux", "pressure"),
                  most=1_000),
        Simulator("threshold", "jump on a surface", _threshold, (0.0,) * 5, (1.0,) * 5, ("jump", "side")),
        Simulator("spring", "damped spring, oscillating", _spring, (0.5, 0.05, 1, 0), (2, 0.5, 4, 20), ("place", "speed")),
        Simulator("queue", "queue, random", _queue, (1.0, 0.3, 0.2), (2.0, 1.0, 1.5), ("mean wait", "longest")),
        Simulator("rough", "wave too short for the sample", _rough, (0.0,) * 4, (1.0,) * 4),
        Simulator("heat-pump", "heat pump (CoolProp)", _heat_pump, (253, 303, 2, 1, 0.5), (283, 343, 20, 15, 0.9),
                  ("COP", "discharge"), needs=("CoolProp",)),
        Simulator("co2", "CO2 around saturation (CoolProp)", _carbon_dioxide, (260, 1.0), (340, 12.0),
                  ("log density", "sound"), needs=("CoolProp",)),
        Simulator("pipe", "pipe flow (fluids)", _pipe, (0.02, 5, 0.1, -3.3, -6), (0.2, 100, 3, -1, -3.5),
                  ("log drop", "friction"), needs=("fluids",)),
        Simulator("valve", "control valve (fluids)", _control_valve, (280, 16, 1.1, 2, 0.2, 0.02),
                  (420, 44, 1.67, 20, 0.95, 0.5), ("log Kv",), needs=("fluids",)),
        Simulator("ignition", "ignition of hydrogen (Cantera)", _ignition, (900, 4.5, 0.3, 0), (1400, 6.5, 2, 5),
                  ("log delay", "temperature", "log OH"), needs=("cantera",), version=2),
        Simulator("battery", "lithium-ion cell (PyBaMM)", _battery, (2, 273, -15, -14, 0.55, 24_000),
                  (10, 318, -14, -13, 0.75, 30_000), ("capacity", "voltage"), needs=("pybamm",)),
        _of_functions("tanh-5", 1),
        _of_functions("tanh-3", 2),
        _of_functions("forest", 1),
        _of_functions("boosting", 1),
        _of_functions("stopped-spring", 1),
        _of_functions("lenet-8x8", 2, most=1_000),
        _of_functions("forest-digits", 2, most=1_000),
    )
}  # fmt: skip
"""By name."""
