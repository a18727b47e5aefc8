"""How long calls take, and how long each scheme waits for them.

>>> import numpy as np, codedmap as cm
>>> model = cm.latency.Bimodal(cm.latency.ShiftedExponential(0.1, 0.01), share=0.05, factor=10)
>>> seconds = model.sample(np.random.default_rng(0), 10_000, 24)
>>> everyone = cm.latency.copies(seconds[:, :20], tasks=20)
>>> some = cm.latency.quorum(seconds, answers=20)
>>> bool(everyone.quantile(0.99) > 5 * some.quantile(0.99))
True
"""

from .measured import Empirical
from .models import Bimodal, LatencyModel, Pareto, ShiftedExponential
from .scheduled import scheduled
from .waits import Waits, copies, hedged, hedged_in_pool, quorum, responders

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
    "scheduled",
]

for _name in __all__:
    # Pickles, reprs and the documentation name things where people find them.
    globals()[_name].__module__ = __name__
del _name
