"""What a polar code estimates before it can decode, and how far off it says that is."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from codedmap.codes import PolarCode


def test_of_answers_with_much_in_common_the_error_is_neither_under_nor_overstated():
    code = PolarCode(6, 16)
    weights = np.stack([code.weights(worker) for worker in range(16)])
    rng = np.random.default_rng(0)
    values = rng.standard_normal((6, 400))
    coded = code.coded(values)
    seen = 0
    for slots in map(list, (s for count in (3, 4) for s in combinations(range(16), count))):
        common = ((weights[slots] @ weights[slots].T) ** 2).mean()
        if common < 0.4 or code.decodable(frozenset(slots)):
            continue
        seen += 1
        made, stderr = code.estimate({slot: coded[slot] for slot in slots})
        inside = (np.abs(made - values) < 1.96 * stderr).mean()
        assert 0.88 < inside < 0.99, slots
    assert seen > 50


def test_all_answers_leave_no_error():
    code = PolarCode(5, 8)
    values = np.random.default_rng(0).standard_normal((5, 3, 2))
    made, stderr = code.estimate(dict(enumerate(code.coded(values))))
    np.testing.assert_allclose(made, values, rtol=0, atol=1e-14)
    assert (stderr < 1e-14).all()


def test_a_single_answer_is_no_estimate():
    code = PolarCode(5, 8)
    assert code.estimate({3: code.coded(np.ones((5, 2)))[3]}) is None
