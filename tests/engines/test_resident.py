"""A function that is kept on the workers."""

from __future__ import annotations

from itertools import count

import codedmap as cm
from codedmap.testing import Scripted

from ..interleaving import interleaved


def test_two_jobs_that_begin_at_once_send_a_function_to_each_worker_once():
    """A worker opened a model twice, and had both in memory."""

    class Counting(Scripted):
        kept = 0

        def keep(self, worker, value):
            self.kept += 1
            return super().keep(worker, value)

    for n in count(1):
        with Counting(2) as engine:
            resident, found = cm.engines.Resident(abs, engine), []

            def on(resident=resident, found=found):
                found.append(resident.on(0))

            if not interleaved(n, cm.engines.Resident.on, on, on):
                break
            assert engine.kept == 1, n
            assert found[0] is found[1]
    assert n > 20
