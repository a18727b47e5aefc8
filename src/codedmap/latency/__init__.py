"""How long calls take, and what each scheme makes of it.

>>> import numpy as np, codedmap as cm
>>> model = cm.latency.Bimodal(cm.latency.ShiftedExponential(0.1, 0.01), share=0.05, factor=10)
>>> seconds = model.sample(np.random.default_rng(0), 10_000, 24)
>>> everyone = cm.latency.copies(seconds[:, :20], tasks=20)
>>> some = cm.latency.quorum(seconds, answers=20)
>>> bool(everyone.quantile(0.99) > 5 * some.quantile(0.99))
True
"""

from ._measured import Empirical as Empirical
from ._models import Bimodal as Bimodal
from ._models import LatencyModel as LatencyModel
from ._models import Pareto as Pareto
from ._models import ShiftedExponential as ShiftedExponential
from ._waits import Waits as Waits
from ._waits import copies as copies
from ._waits import hedged as hedged
from ._waits import hedged_in_pool as hedged_in_pool
from ._waits import quorum as quorum
from ._waits import responders as responders

__all__ = [
    "Bimodal",
    "Empirical",
    "LatencyModel",
    "Pareto",
    "ShiftedExponential",
    "Waits",
    "copies",
    "hedged",
    "hedged_in_pool",
    "quorum",
    "responders",
]

for _name in __all__:
    # Pickles, reprs and the documentation name things where people find them.
    globals()[_name].__module__ = __name__
del _name
