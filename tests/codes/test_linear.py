"""What a linear code keeps of earlier decoding."""

from __future__ import annotations

from functools import partial
from itertools import count

import codedmap as cm
from codedmap.codes import linear

from ..interleaving import interleaved


def test_several_threads_may_decode_with_one_code(monkeypatch):
    """Where it kept as many operators as it may, one of them failed now and then."""
    monkeypatch.setattr(linear, "_KEPT", 3)

    def keep(key):
        assert code.kept(key, lambda: key) == key

    for n in count(1):
        code = cm.SplineCode(3, 9, 2)
        for key in range(3):
            keep(key)
        # What another thread does last, which has made room before.
        put = partial(code._memory.__setitem__, "other", "other")
        if not interleaved(n, cm.SplineCode.kept, lambda: keep("new"), put):
            break
    assert n > 20
