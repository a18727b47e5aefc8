"""The rooms into which faults are put, and the tests that are to find them there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .faults import Fault, faults

ROOT = Path(__file__).parents[1]

WANTED = {"all": 0.75}
"""The least share to be found, in all or in a room."""

# Room, globs below src/codedmap, and files or folders below tests, those first that are quick and
# find most. A fault that survives takes as long as they do together: a row is to take half a
# minute. The engines and the command line are left out, whose tests start processes.
ROWS = [
    ("contracts", "_answers.py _forms.py _rows.py", "test_forms.py test_bad_input.py test_map.py laws/test_estimates.py"),
    ("contracts", "_rules.py", "test_rules.py test_map.py test_tolerance.py"),
    ("contracts", "_code.py _checks.py _closing.py _memory.py", "laws/test_estimates.py test_bad_input.py test_groups.py test_matrix.py laws/test_codes.py"),
    ("coding", "_ordering.py _two_opt.py", "test_ordering.py"),
    ("coding", "_points.py _spline.py _precision.py", "laws/test_codes.py test_spline.py test_liars_linear.py"),
    ("coding", "_operators.py _buffer.py _groups.py _loose.py", "test_groups.py test_buffer.py test_map.py test_loose.py test_operators.py"),
    ("coding", "_sums/combining.py _sums/gradient.py", "laws/test_sums.py test_sum.py"),
    ("detection", "_contradictions.py _nonfinite.py _votes.py", "codes/test_replication.py test_contradictions.py test_kernel_copies.py laws/test_codes.py"),
    ("detection", "_outliers.py _sketches.py", "test_liars_linear.py test_kernel_lies.py"),
    ("estimation", "_kernel/[dgkm]*.py _kernel/evidence.py _kernel/solving.py", "test_metric.py test_kernel_caught.py test_kernel.py test_kernel_rounding.py test_kernel_lies.py"),
    ("estimation", "_kernel/[copr]*.py", "test_metric.py test_kernel.py test_kernel_rounding.py test_kernel_copies.py laws/test_codes.py"),
    ("estimation", "_kernel/[hjq]*.py _kernel/elimination.py _kernel/suspects.py", "test_kernel_caught.py test_kernel_copies.py test_kernel_quarrels.py test_kernel_lies.py"),
    ("codes", "codes/[bls]*.py codes/replication.py _linear.py _mixing.py _ordered.py _robust.py", "codes/test_lagrange.py codes/test_replication.py laws/test_estimates.py laws/test_codes.py test_published.py test_liars_linear.py"),
    ("codes", "codes/kernel*.py", "test_kernel_caught.py test_kernel.py test_kernel_copies.py test_kernel_lies.py"),
    ("codes", "codes/*gradient.py codes/fractional*.py codes/ignore*.py", "laws/test_sums.py test_sum.py test_sum_rounding.py"),
    ("codes", "codes/mds.py codes/polar.py", "laws/test_matrices.py test_matrix_rounding.py test_matrix.py test_matrix_disputed.py"),
    ("execution", "_wave.py _batch.py _collect.py _again.py _stream.py _parts.py _placed.py", "execution/test_wave.py test_rules.py test_map.py test_tolerance.py test_hedge_liars.py test_stream.py test_hedge.py"),
    ("execution", "_hedge.py", "test_hedge_liars.py test_hedge.py"),
    ("latency", "latency/*.py", "test_latency.py"),
    ("planning", "_planning/*.py", "test_auto.py test_plan.py"),
    ("storage", "_digest.py _journal.py _source.py _form.py _growing.py _sink.py _store.py", "test_waves.py"),
    ("results", "_result.py _totals.py _telling.py _sums/result.py _matrices/result.py", "test_map.py test_sum.py test_matrix.py test_tolerance.py"),
    ("sums", "_sums/integers.py _sums/pieces.py _sums/shard.py _sums/parts.py _sums/door.py", "test_sum_integers.py test_sum_given.py test_sum_rounding.py test_sum.py laws/test_sums.py"),
    ("matrices", "_matrices/[bcd]*.py _matrices/products.py", "test_matrix_rounding.py laws/test_matrices.py test_matrix.py test_matrix_disputed.py"),
    ("topology", "_clusters/*.py", "test_plan_cluster.py"),
    ("training", "training/*.py", "test_training.py"),
    ("api", "_map.py _waves.py", "test_map.py test_bad_input.py test_waves.py"),
]  # fmt: skip


def every_fault() -> Iterator[tuple[str, str, Fault]]:
    """Room, tests and fault, for all that the files of the rooms can be given."""
    for room, sources, tests in ROWS:
        for glob in sources.split():
            paths = sorted((ROOT / "src" / "codedmap").glob(glob))
            if not paths:
                raise FileNotFoundError(f"mutants/rooms.py: {glob!r} fits no file of src/codedmap")
            for path in paths:
                for fault in faults(path.relative_to(ROOT), path.read_text()):
                    yield room, tests, fault
