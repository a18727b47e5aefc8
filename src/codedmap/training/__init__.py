"""Optimisers whose gradients come from `codedmap.sum`, in full or as a sketch.

>>> import numpy as np, codedmap as cm
>>> target = np.linspace(-1, 1, 200)
>>> parts = [target + shift for shift in (-2.0, -1.0, 0.0, 1.0, 2.0, 0.0)]
>>> code = cm.codes.FractionalRepetition(workers=6, stragglers=2)
>>> with cm.testing.Scripted(6, {1: cm.testing.never()}) as engine:
...     shards = cm.CodedParts(parts, code=code, engine=engine)
...     optimizer = cm.training.AMSGrad(np.zeros(200), 0.1)
...     for _ in range(100):
...         step = optimizer.step(lambda part, weights: weights - part, shards)
>>> bool(np.abs(optimizer.weights - target).max() < 0.05), step.sum.received
(True, 8000)
"""

from .amsgrad import AMSGrad, Step
from .sketched import CountSketch, SketchedAMSGrad

__all__ = ["AMSGrad", "CountSketch", "SketchedAMSGrad", "Step"]
