"""How long calls take, and what each scheme makes of it.

>>> import numpy as np, codedmap as cm
>>> model = cm.latency.Bimodal(cm.latency.ShiftedExponential(0.1, 0.01), share=0.05, factor=10)
>>> seconds = model.sample(np.random.default_rng(0), 10_000, 24)
>>> everyone = cm.latency.copies(seconds[:, :20], tasks=20)
>>> some = cm.latency.quorum(seconds, answers=20)
>>> bool(everyone.quantile(0.99) > 5 * some.quantile(0.99))
True
"""

from .measured import Empirical as Empirical
from .models import Bimodal as Bimodal
from .models import LatencyModel as LatencyModel
from .models import Pareto as Pareto
from .models import ShiftedExponential as ShiftedExponential
from .waits import Waits as Waits
from .waits import copies as copies
from .waits import hedged as hedged
from .waits import hedged_in_pool as hedged_in_pool
from .waits import quorum as quorum
from .waits import responders as responders

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
