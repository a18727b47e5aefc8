"""The rooms into which faults are put, and the tests that are to find them there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .faults import Fault, faults

ROOT = Path(__file__).parents[1]

WANTED = {"all": 0.75, "api": 0.85, "cli": 0.85, "detection": 0.85, "estimation": 0.85}
"""The least share to be found, in all or in a room."""

# Globs below src/codedmap, whose folder is the room, and files below tests: first those that are
# quick and find most. A fault that survives takes as long as they do together, so a row is to take
# half a minute. Engines are left out where a fault might end any process of this machine, or has to
# be found on clusters.
ROWS = [
    ("contracts/answers.py contracts/inputs.py", "contracts/test_answers.py api/test_bad_input.py api/test_map.py contracts/test_estimates.py"),
    ("contracts/extremes.py", "contracts/test_extremes.py"),
    ("contracts/stopping.py", "contracts/test_stopping.py api/test_map.py api/test_tolerance.py"),
    ("contracts/arguments.py contracts/c*.py contracts/m*.py contracts/sum_code.py", "contracts/test_memory.py contracts/test_estimates.py api/test_bad_input.py coding/test_groups.py api/test_matrix.py api/test_sum.py contracts/test_codes.py"),
    ("contracts/engine.py errors.py __init__.py", "test_face.py results/test_messages.py results/test_printed.py execution/test_members.py topology/test_topology.py"),
    ("estimation/threads.py", "estimation/test_threads.py"),
    ("results/*_result.py results/sobol.py results/summary.py results/status.py", "api/test_refill.py results/test_printed.py results/test_messages.py results/test_scatter.py api/test_sweep.py api/test_map.py api/test_sum.py api/test_matrix.py"),
    ("results/plan.py", "results/test_plan.py"),
    ("results/scatter.py", "results/test_scatter.py"),
    ("results/progress_bar.py", "results/test_progress_bar.py"),
    ("coding/ordering.py", "coding/test_ordering.py"),
    ("coding/points.py coding/spline.py coding/precision.py", "contracts/test_codes.py coding/test_spline.py codes/test_linear_outliers.py"),
    ("coding/operators.py coding/groups.py", "coding/test_groups.py api/test_map.py coding/test_operators.py"),
    ("coding/gradient.py", "contracts/test_sums.py api/test_sum.py"),
    ("detection/contradictions.py detection/nonfinite.py", "detection/test_contradictions.py codes/test_lagrange.py"),
    ("detection/replicas.py", "detection/test_replicas.py codes/test_replication.py codes/test_kernel_copies.py"),
    ("detection/outliers.py detection/sketches.py", "detection/test_outliers.py detection/test_sketches.py codes/test_linear_outliers.py"),
    ("detection/residuals.py", "detection/test_residuals.py codes/test_kernel_caught.py"),
    ("estimation/losses.py", "estimation/test_losses.py estimation/test_surrogate.py api/test_fill.py"),
    ("estimation/known.py", "estimation/test_known.py codes/test_kernel.py api/test_fill.py"),
    ("estimation/gaussian.py estimation/nearest.py estimation/calibration.py estimation/space.py estimation/transforms.py", "estimation/test_gaussian.py estimation/test_space.py estimation/test_parts.py estimation/test_candidates.py estimation/test_surrogate.py"),
    ("estimation/surrogate.py estimation/one_*.py estimation/components.py estimation/models.py estimation/rotation.py estimation/conditioning.py estimation/points.py estimation/candidates.py estimation/worst_first.py", "estimation/test_parts.py estimation/test_time.py estimation/test_candidates.py estimation/test_surrogate.py api/test_fill.py"),
    ("estimation/set_aside.py", "estimation/test_set_aside.py api/test_fill.py"),
    ("estimation/other_outputs.py", "estimation/test_other_outputs.py api/test_fill.py"),
    ("estimation/judging.py", "estimation/test_judging.py codes/test_kernel_caught.py codes/test_kernel.py codes/test_kernel_copies.py codes/test_kernel_outliers.py"),
    ("coding/cells.py", "codes/test_kernel_caught.py codes/test_kernel.py codes/test_kernel_copies.py codes/test_kernel_outliers.py"),
    ("codes/[bls]*.py codes/curves.py codes/replication.py", "codes/test_lagrange.py codes/test_replication.py api/test_bad_input.py contracts/test_estimates.py contracts/test_codes.py codes/test_published.py codes/test_linear.py codes/test_linear_outliers.py"),
    ("codes/kernel.py", "codes/test_kernel_caught.py codes/test_kernel.py codes/test_kernel_copies.py codes/test_kernel_outliers.py"),
    ("codes/*gradient.py codes/fractional*.py codes/ignore*.py", "contracts/test_sums.py api/test_sum.py api/test_sum_rounding.py"),
    ("codes/mds.py codes/polar.py", "codes/test_polar.py contracts/test_matrices.py api/test_matrix_rounding.py api/test_matrix.py api/test_matrix_disputed.py"),
    ("latency/*.py", "latency/test_latency.py latency/test_scheduled.py"),
    ("execution/checked.py execution/chunk_rows.py execution/coded.py execution/decoded_rows.py execution/encoded.py execution/job_estimates.py execution/job.py execution/placed.py execution/received.py", "execution/test_coded.py execution/test_rejections.py contracts/test_stopping.py api/test_map.py api/test_tolerance.py execution/test_hedge_outliers.py api/test_stream.py execution/test_hedge.py api/test_sum.py api/test_map_out.py"),
    ("execution/scheduler.py execution/events.py execution/chunks.py execution/call_*.py execution/crashes.py execution/parking.py execution/virtual.py", "execution/test_scheduler.py execution/test_parking.py execution/test_chunks.py latency/test_scheduled.py"),
    ("execution/live.py execution/inputs.py execution/task.py", "execution/test_live.py api/test_map_rows.py"),
    ("results/trees.py results/calls.py", "results/test_trees.py results/test_scatter.py api/test_map_rows.py"),
    ("execution/threads.py", "execution/test_threads.py"),
    ("execution/hedge.py", "execution/test_hedge_outliers.py execution/test_hedge.py"),
    ("storage/*.py execution/job_rows.py", "execution/test_job_rows.py storage/test_digest.py storage/test_journal.py storage/test_outputs.py storage/test_sources.py api/test_map_out.py"),
    ("sums/*.py", "sums/test_integers.py api/test_sum_given.py api/test_sum_rounding.py api/test_sum.py contracts/test_sums.py"),
    ("matrices/*.py", "matrices/test_call.py matrices/test_freivalds.py api/test_matrix_verified.py api/test_matrix_rounding.py contracts/test_matrices.py api/test_matrix.py api/test_matrix_disputed.py"),
    ("planning/*.py", "planning/test_parts.py planning/test_ways.py api/test_plan.py"),
    ("api/map.py", "test_face.py api/test_map.py api/test_bad_input.py api/test_map_rows.py api/test_map_out.py"),
    ("execution/missing.py contracts/warning.py", "execution/test_missing.py api/test_map_rows.py"),
    ("execution/uncoded.py execution/failures.py", "api/test_first_errors.py execution/test_live.py api/test_map_rows.py api/test_tolerance.py api/test_plan.py api/test_auto.py"),
    ("api/matrix.py", "api/test_matrix_rounding.py api/test_matrix.py"),
    ("api/sum.py", "api/test_sum_given.py api/test_sum.py"),
    ("api/plan.py", "api/test_plan.py"),
    ("api/piloted.py", "api/test_auto.py api/test_plan.py"),
    ("api/sweep.py", "test_face.py api/test_sweep.py"),
    ("api/fill.py", "api/test_fill.py"),
    ("api/pool.py", "test_face.py api/test_pool.py"),
    ("api/joblib_backend.py", "test_face.py api/test_joblib_backend.py"),
    ("api/amap.py", "api/test_amap.py"),
    ("api/onnx.py", "api/test_onnx.py"),
    ("testing.py", "engines/test_scripted.py"),
    ("topology/*.py", "topology/test_topology.py"),
    ("training/*.py", "training/test_training.py"),
    ("cli/sweep.py", "cli/test_sweep.py"),
    ("api/command.py", "api/test_command.py cli/test_sweep.py"),
    ("cli/tables.py", "cli/test_fill.py cli/test_sweep.py"),
    ("cli/fill.py", "cli/test_fill.py"),
    ("cli/plan.py", "cli/test_plan.py"),
    ("cli/run.py cli/files.py", "cli/test_commands.py cli/test_stored.py cli/test_output.py"),
    ("cli/names.py cli/options.py", "cli/test_fill.py cli/test_commands.py cli/test_stored.py"),
    ("cli/shell.py cli/__init__.py", "cli/test_output.py cli/test_commands.py"),
    ("cli/engines.py", "cli/test_engines.py cli/test_output.py"),
    ("engines/cluster_engine.py engines/queue_engine.py", "engines/test_queue_engine.py engines/test_cluster_engine.py"),
    ("engines/failure_domains.py engines/limits.py", "engines/test_limits.py engines/test_failure_domains.py"),
    ("engines/executor.py engines/resident.py", "engines/test_resident.py engines/test_executor.py"),
    ("engines/transport/parcel.py engines/transport/failure.py", "engines/test_parcel.py engines/test_cluster_engine.py engines/test_executor.py"),
]  # fmt: skip


def every_file() -> Iterator[tuple[Path, str]]:
    """The files of the rows, and their tests."""
    for sources, tests in ROWS:
        for glob in sources.split():
            paths = sorted((ROOT / "src" / "codedmap").glob(glob))
            if not paths:
                raise FileNotFoundError(f"mutants/rooms.py: {glob!r} fits no file of src/codedmap")
            yield from ((path, tests) for path in paths)


def every_fault() -> Iterator[tuple[str, str, Fault]]:
    """Room, tests and fault, for all that the files of the rooms can be given."""
    for path, tests in every_file():
        for fault in faults(path.relative_to(ROOT), path.read_text()):
            yield path.parent.name, tests, fault
