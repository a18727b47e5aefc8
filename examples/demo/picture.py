"""The figure of the demo: payloads, calls over time, seconds and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

import codedmap as cm

from .schemes import Run, Setup
from .table import Row

__all__ = ["draw"]

# Okabe and Ito's palette, suited to colour-blind readers.
ANSWERED, AGAIN, LATE, CRASHED = "#0072B2", "#56B4E9", "#E69F00", "#D55E00"
TIME, ERROR = "#009E73", "#CC79A7"
INK, SOFT, LINE = "#222222", "#555555", "#AAAAAA"
SMALL, NORMAL, TITLE = 15, 17, 28
LEFT, RIGHT = 0.02, 0.655  # left edges of the two columns
SHOWN = ("Wait for everyone", "Replication x2", "LeTCC")


def draw(
    path: Path,
    table: Sequence[Row],
    runs: Mapping[str, Sequence[Run]],
    rows: np.ndarray,
    setup: Setup,
) -> None:
    """Draw 1600 x 900 pixels.

    Parameters
    ----------
    path : Path
        PNG file to write.
    table : sequence of Row
    runs : mapping of str to sequence of Run
        By scheme, one per wave.
    rows : ndarray, shape (m, 1, 28, 28)
        Digits of a wave, for the payloads.
    setup : Setup
    """
    figure = Figure(figsize=(16, 9), dpi=100, facecolor="white")
    title = "Late and crashed workers: wait, hedge, copy or code?"
    figure.text(LEFT, 0.935, title, size=TITLE, weight="bold", color=INK)
    _payloads(figure, rows, setup)
    _who_answered(figure, runs)
    _times(figure, table, len(runs[SHOWN[0]]))
    _errors(figure, table)
    caption = (
        f"LeNet-5 on MNIST digits, K = {setup.tasks} tasks. Waiting and hedging begin with "
        f"{setup.tasks} worker processes, the others use N = {setup.workers}; the codes do not wait "
        f"for the last S = {setup.stragglers}.\n"
        f"Injected: every call sleeps {setup.latency}; one worker is killed in every wave."
    )
    figure.text(LEFT, 0.02, caption, size=SMALL - 1, color=SOFT, linespacing=1.5)
    figure.savefig(path)


def _heading(figure: Figure, x: float, y: float, text: str, more: str = "") -> None:
    figure.text(x, y, text, size=NORMAL, weight="bold", color=INK)
    figure.text(x, y - 0.035, more, size=SMALL - 1, color=SOFT)


def _payloads(figure: Figure, rows: np.ndarray, setup: Setup) -> None:
    """The digits of one group, and mixtures of them as payloads."""
    K, N, S = setup.tasks, setup.workers, setup.stragglers
    tasks = rows.reshape(K, -1, *rows.shape[1:])
    some = np.linspace(0, N - 1, K).round().astype(int)
    strips = {
        "digits": tasks[:, 0],
        "BACC": cm.BerrutCode(K, N, S).encode(tasks).payloads[some, 0],
        "LeTCC": cm.SplineCode(K, N, S).encode(tasks).payloads[some, 0],
        # The first K are the digits themselves.
        "Kernel": cm.KernelCode(K, N, S).encode(tasks).payloads[N - K :, 0],
    }
    _heading(figure, LEFT, 0.87, f"What workers are sent: digits, or mixtures ({K} of {N} shown)")
    for place, (name, images) in enumerate(strips.items()):
        y = 0.768 - place * 0.078
        axes = figure.add_axes((0.085, y, 0.54, 0.072))
        gap = np.zeros((28, 2))
        strip = np.hstack([part for image in images[:, 0] for part in (image, gap)][:-1])
        axes.imshow(np.clip(strip, 0, 1), cmap="gray_r", vmin=0, vmax=1, aspect="auto")
        axes.set_axis_off()
        figure.text(LEFT, y + 0.036, name, va="center", size=NORMAL, color=INK)


def _who_answered(figure: Figure, runs: Mapping[str, Sequence[Run]]) -> None:
    """The calls of some schemes over time, in the wave closest to their medians."""
    seconds = np.array([[run.seconds for run in runs[name]] for name in SHOWN])
    usual = np.median(seconds, axis=1, keepdims=True)
    wave = int(np.abs(np.log(seconds / usual)).sum(axis=0).argmin())
    chosen = [runs[name][wave] for name in SHOWN]
    end = max((call.ended or 0.0) - run.began for run in chosen for call in run.calls)
    most = max(len(run.calls) for run in chosen)
    _heading(figure, LEFT, 0.485, f"Who answered (wave {wave + 1})")
    for place, (name, run) in enumerate(zip(SHOWN, chosen, strict=True)):
        axes = figure.add_axes((LEFT + place * 0.208, 0.155, 0.19, 0.255))
        _bars(axes, run)
        axes.set(xlim=(0, 1.03 * max(end, run.seconds)), ylim=(0.4 - most, 0.9))
        _plain(axes)
        axes.set_yticks([])
        axes.set_xlabel("seconds", size=SMALL, color=INK)
        axes.set_title(name, loc="left", size=SMALL, color=INK, pad=8)
        axes.set_title(
            f"{run.seconds:.2f} s", loc="right", size=SMALL, color=INK, pad=8, weight="bold"
        )
    kinds = {"answered": ANSWERED, "sent again": AGAIN, "abandoned": LATE, "crashed": CRASHED}
    done = Line2D([], [], color=INK, linewidth=2.5, marker="|", markersize=0, label="done")
    figure.legend(
        handles=[*(Patch(color=colour, label=label) for label, colour in kinds.items()), done],
        loc="lower right",
        bbox_to_anchor=(0.632, 0.47),
        ncols=5,
        frameon=False,
        fontsize=SMALL - 1,
        handlelength=0.9,
        handleheight=0.9,
        columnspacing=0.9,
        handletextpad=0.4,
        borderpad=0,
    )


def _bars(axes: Axes, run: Run) -> None:
    for place, call in enumerate(run.calls):
        began = call.began - run.began
        ended = (call.ended or call.began) - run.began
        answered = AGAIN if call.again else ANSWERED
        colour = CRASHED if call.crashed else answered if ended <= run.seconds else LATE
        stopped = min(ended, run.seconds)
        axes.barh(-place, stopped - began, left=began, height=0.74, color=colour)
        # The part of the call after the wave has ended.
        axes.barh(-place, ended - stopped, left=stopped, height=0.74, color=colour, alpha=0.3)
        if call.crashed:
            axes.plot(ended, -place, "X", markersize=11, color=CRASHED, markeredgecolor="white")
    axes.axvline(run.seconds, color=INK, linewidth=2.5)


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(labelsize=SMALL - 1, colors=SOFT, length=0)


def _times(figure: Figure, table: Sequence[Row], waves: int) -> None:
    axes = figure.add_axes((0.785, 0.575, 0.2, 0.25))
    _heading(
        figure,
        RIGHT,
        0.87,
        "Seconds to all answers",
        f"median and range of {waves} wave{'s' if waves > 1 else ''}",
    )
    for place, row in enumerate(table):
        span = [row.seconds_min, row.seconds_max]
        axes.plot(span, [-place, -place], color=TIME, linewidth=6, alpha=0.35)
        axes.plot(row.seconds_median, -place, "o", color=TIME, markersize=13)
        _label(axes, place, f"{row.seconds_median:.2f} s")
    axes.set_xlim(0, 1.4 * max(row.seconds_max for row in table))
    _schemes(axes, table)


def _errors(figure: Figure, table: Sequence[Row]) -> None:
    axes = figure.add_axes((0.785, 0.155, 0.2, 0.265))
    _heading(figure, RIGHT, 0.485, "Error", "bar: RMSE / sd; number: labels as the model's own")
    for place, row in enumerate(table):
        axes.barh(-place, row.rmse_over_sd, height=0.55, color=ERROR)
        _label(axes, place, "exact" if row.rmse == 0 else f"{row.same_label:.1%}")
    axes.set_xlim(0, 1.6 * max(0.1, *(row.rmse_over_sd for row in table)))
    _schemes(axes, table)


def _label(axes: Axes, place: int, text: str) -> None:
    axes.text(
        1.0, -place, text, transform=axes.get_yaxis_transform(), ha="right", va="center",
        size=SMALL, weight="bold", color=INK,
    )  # fmt: skip


def _schemes(axes: Axes, table: Sequence[Row]) -> None:
    _plain(axes)
    axes.set_yticks([-place for place in range(len(table))], [row.scheme for row in table])
    axes.tick_params(axis="y", labelsize=SMALL, colors=INK)
    axes.set_ylim(0.4 - len(table), 0.6)
