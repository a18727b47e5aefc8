"""How long calls take, and how long jobs take then: the scheduler of `codedmap.map` in virtual time.

>>> import numpy as np, codedmap as cm
>>> model = cm.latency.Bimodal(cm.latency.ShiftedExponential(0.1, 0.01), share=0.05, factor=10)
>>> calls = model.calls(np.random.default_rng(0), 100, 24, 2)
>>> plain = cm.latency.scheduled(calls[:, :, :20], rows=20, hedge=None)
>>> coded = cm.latency.scheduled(calls, rows=20, code=cm.KernelCode(20, 24, 4), hedge=None)
>>> bool(plain.quantile(0.99) > 5 * coded.quantile(0.99))
True
"""

from .measured import Empirical as Empirical
from .models import Bimodal as Bimodal
from .models import LatencyModel as LatencyModel
from .models import Pareto as Pareto
from .models import ShiftedExponential as ShiftedExponential
from .scheduled import Waits as Waits
from .scheduled import scheduled as scheduled

__all__ = [name for name, it in list(globals().items()) if callable(it)]
