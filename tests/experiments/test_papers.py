from __future__ import annotations

import numpy as np
import pytest
from experiments.papers import BACC, LCC, LeTCC

import codedmap as cm

CODES = {
    "LeTCC": (LeTCC(8, 40, 8), cm.SplineCode(8, 40, 8)),
    "BACC": (BACC(8, 40, 8), cm.BerrutCode(8, 40, 8)),
    "LCC": (LCC(8, 40, 8, degree=2), cm.LagrangeCode(8, 40, 8, degree=2)),
}


@pytest.mark.parametrize("name", CODES)
def test_the_papers_codes_reject_no_answer_and_are_otherwise_those_of_the_library(name):
    paper, library = CODES[name]
    inputs = np.linspace(-1.0, 1.0, 8)[:, None, None]
    encodings = paper.encode(inputs), library.encode(inputs)
    np.testing.assert_array_equal(encodings[0].payloads, encodings[1].payloads)
    answers = dict(enumerate(encodings[1].payloads ** 2))
    honest = [encoding.decode(answers) for encoding in encodings]
    np.testing.assert_array_equal(honest[0].values, honest[1].values)
    answers[17] = answers[17] + 100.0
    lied = [encoding.decode(answers).rejected for encoding in encodings]
    assert lied == [(), (17,)]
