"""Scales on which an output is more nearly Gaussian."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_SKEWED = 1.0  # skewness from which a change of scale is tried
_HEAVY = 3.0  # excess kurtosis from which it is
# Variance on the new scale up to which a mean is taken back as that of the distribution.
_WIDE = 1.0


@dataclass(frozen=True, slots=True)
class Transform:
    """A change of scale: none, the logarithm of an output less a shift, or the inverse hyperbolic sine.

    The logarithm of width -1 is that of how far an output is below the shift.
    """

    name: str
    shift: float = 0.0
    width: float = 1.0

    def there(self, values: np.ndarray) -> np.ndarray:
        """Values on the new scale."""
        if self.name == "logarithm":
            return np.log((values - self.shift) / self.width)
        if self.name == "asinh":
            return np.arcsinh((values - self.shift) / self.width)
        return values

    def back(self, means: np.ndarray, variances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances on the old scale, of what is Gaussian on the new one."""
        if self.name == "none":
            return means, variances
        small = np.minimum(variances, _WIDE)
        means = np.clip(means, -100.0, 100.0)
        if self.name == "logarithm":
            middle = np.exp(means + small / 2.0) * self.width
            return middle + self.shift, np.expm1(small) * middle**2 * (variances / small)
        grow = np.exp(small / 2.0)
        middle = np.sinh(means) * grow
        spread = np.expm1(small) / 2.0 * (grow**2 * np.cosh(2.0 * means) + 1.0)
        return middle * self.width + self.shift, spread * self.width**2 * (variances / small)


NONE = Transform("none")


def transforms(values: np.ndarray, zero: float) -> Iterator[Transform]:
    """Changes of scale that may help with these values (n,), among which 0 has become ``zero``."""
    centred = values - values.mean()
    deviation = values.std()
    skewness = float((centred**3).mean() / deviation**3)
    kurtosis = float((centred**4).mean() / deviation**4) - 3.0
    if abs(skewness) < _SKEWED and kurtosis < _HEAVY:
        return
    # A yield and a loss are one output: its sign does not matter.
    sign = 1.0 if skewness > 0.0 else -1.0
    sizes = sign * (values - zero)
    if sizes.min() > 0.0 and sizes.max() > 3.0 * sizes.min():
        yield Transform("logarithm", zero, sign)
    width = float(np.subtract(*np.quantile(values, [0.75, 0.25]))) / 2.0
    if width > 1e-3 * deviation:
        yield Transform("asinh", float(np.median(values)), width)
