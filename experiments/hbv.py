"""HBV-SASK, a conceptual watershed model (Razavi et al.), for the Bow River at Banff."""

from __future__ import annotations

from functools import cache

import numpy as np

from . import data

__all__ = ["OUTPUTS", "RANGES", "call"]

RANGES = {
    "TT": (-4.0, 4.0), "C0": (0.0, 10.0), "ETF": (0.0, 1.0), "LP": (0.0, 1.0), "FC": (50.0, 500.0), "beta": (1.0, 3.0),
    "FRAC": (0.1, 0.9), "K1": (0.05, 1.0), "alpha": (1.0, 3.0), "K2": (0.0, 0.05), "UBAS": (1.0, 3.0), "PM": (0.5, 2.0),
}  # fmt: skip
"""Parameters and their ranges, as the model's authors use them."""
OUTPUTS = ("NSE", "mean flow", "log peak", "mean snow")
WARM, DAYS = 365, 3_652
"""Days before and in the evaluated period."""


@cache
def _forcing() -> dict[str, np.ndarray]:
    with np.load(data.path_of("hbv-banff.npz")) as arrays:
        days = slice(0, WARM + DAYS)
        date = np.datetime64("1970-01-01") + arrays["day"][days].astype("timedelta64[D]")
        month = date.astype("datetime64[M]").astype(int) % 12
        return {
            "rain": arrays["precipitation_mm"][days].astype(float),
            "heat": arrays["temperature_c"][days].astype(float),
            "usual": arrays["monthly_mean_temperature_c"][month],
            "drying": arrays["monthly_mean_pet_mm"][month],
            "flow": arrays["streamflow_m3s"][days] * 86.4 / float(arrays["area_km2"]),
            "initial": arrays["initial"],
        }


def call(x: np.ndarray) -> np.ndarray:
    """Efficiency, mean flow, logarithmic peak flow, mean snow (mm a day, mm): (m, 12) to (m, 4)."""
    forcing = _forcing()
    TT, C0, ETF, LP, FC, beta, FRAC, K1, alpha, K2, base, PM = x.T
    snow, soil, fast, slow = (np.full(len(x), value) for value in forcing["initial"])
    # The unit hydrograph is a triangle over `base` days.
    ends = np.minimum(np.arange(4)[:, None] / base, 1.0)
    shares = np.diff(np.where(ends < 0.5, 2 * ends**2, 1 - 2 * (1 - ends) ** 2), axis=0)
    before = [np.zeros(len(x))] * 2
    observed = forcing["flow"][WARM:]
    squares, total, peak, cover = (np.zeros(len(x)) for _ in range(4))
    for day in range(WARM + DAYS):
        wet, heat = PM * forcing["rain"][day], forcing["heat"][day]
        warm = heat >= TT
        snow = snow + np.where(warm, 0.0, wet)
        melt = np.minimum(snow, np.where(warm, C0 * (heat - TT), 0.0))
        snow = snow - melt
        water = melt + np.where(warm, wet, 0.0)
        usual = forcing["drying"][day]
        wanted = np.clip(usual * (1 + ETF * (heat - forcing["usual"][day])), 0.0, 2 * usual)
        used = np.minimum(wanted * np.minimum(soil / np.maximum(LP * FC, 1e-9), 1.0), soil)
        released = water * np.minimum(soil / FC, 1.0) ** beta
        soil = np.maximum(soil + water - released - used, 0.0)
        released = released + np.maximum(soil - FC, 0.0)
        soil = np.minimum(soil, FC)
        fast = fast + FRAC * released
        slow = slow + (1 - FRAC) * released
        quick, steady = np.minimum(K1 * fast**alpha, fast), K2 * slow
        fast, slow = fast - quick, slow - steady
        now = quick + steady
        flow = shares[0] * now + shares[1] * before[0] + shares[2] * before[1]
        before = [now, before[0]]
        if day >= WARM:
            squares += (flow - observed[day - WARM]) ** 2
            total += flow
            peak = np.maximum(peak, flow)
            cover += snow
    efficiency = 1 - squares / ((observed - observed.mean()) ** 2).sum()
    return np.stack([efficiency, total / DAYS, np.log(peak), cover / DAYS], axis=1)
