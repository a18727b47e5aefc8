"""``python -m mutants``: puts small random faults into the package; reports which the tests find."""

from __future__ import annotations

import argparse
import contextlib
import queue
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .faults import Fault
from .rooms import WANTED, every_fault, every_file
from .runs import Copy, Run

_LIMIT = 900.0  # seconds that tests may take without a fault

Drawn = list[tuple[str, str, Fault]]
Reasons = dict[tuple[str, str, str], str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw faults, run the tests, report; 1 if fewer are found than wanted."""
    rooms = list(dict.fromkeys(path.parent.name for path, _ in every_file()))
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument("--faults", type=int, default=100, help="in all (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="which ones (default %(default)s)")
    parser.add_argument("--room", choices=rooms, action="append", help="default: all")
    parser.add_argument("--at", metavar="FILE[:LINE]", help="all faults there instead of a sample")
    parser.add_argument("--jobs", type=int, default=2, help="at a time (default %(default)s)")
    parser.add_argument("--list", action="store_true", help="show the faults and run nothing")
    parser.add_argument("--wanted", nargs="+", default=[], metavar="[ROOM=]SHARE", help="to find")
    options = parser.parse_args(arguments)
    wanted = dict(WANTED)
    for text in options.wanted:
        room, _, share = text.rpartition("=")
        wanted[room or "all"] = float(share)
    known = equivalent((Path(__file__).parent / "equivalent.txt").read_text())
    drawn = drawn_faults(options.room or rooms, options, known)
    if options.list:
        print(*(_shown(*one) for one in drawn), sep="\n")
        return 0
    return report(drawn, _tried(drawn, options.jobs), wanted, known)


def equivalent(text: str) -> Reasons:
    """Reasons by `Fault.key`, from entries of a file's name, ``- before``, ``+ after``, reason."""
    reasons = {}
    for entry in text.split("\n\n"):
        lines = [line for line in entry.splitlines() if not line.startswith("#")]
        if lines:
            name, before, after, *why = lines
            reasons[name, before.removeprefix("- "), after.removeprefix("+ ")] = " ".join(why)
    return reasons


def drawn_faults(rooms: Sequence[str], options: argparse.Namespace, known: Reasons) -> Drawn:
    """As many of each room, or all at one place."""
    faults = defaultdict(list)
    for one in every_fault():
        place = f"/{one[2].path}:{one[2].line}:"
        if f"/{options.at}:" in place if options.at else one[2].key not in known:
            faults[one[0]].append(one)
    drawn = []
    for place, room in enumerate(rooms):
        faults[room].sort(key=lambda one: one[2].draw(options.seed))
        before, until = (options.faults * part // len(rooms) for part in (place, place + 1))
        drawn += faults[room][: None if options.at else until - before]
    return drawn


def _tried(drawn: Drawn, jobs: int) -> list[Run]:
    """How the tests ended with each fault, once they have passed without any."""
    copies: queue.SimpleQueue[Copy] = queue.SimpleQueue()

    def run(room: str, tests: str, fault: Fault | None, limit: float) -> Run:
        copy = copies.get()
        try:
            done = copy.run(tests, limit, fault)
        finally:
            copies.put(copy)
        print(f"{_shown(room, tests, fault)}\n  {done}", flush=True)
        return done

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(jobs) as pool:
        for _ in range(jobs):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-"))
            copies.put(Copy(Path(folder)))
        rows = {tests: room for room, tests, _ in drawn}
        plain = [pool.submit(run, room, tests, None, _LIMIT) for tests, room in rows.items()]
        for done in plain:
            if done.result().failed:
                raise SystemExit(f"{done.result()} without a fault: repair this first")
        limits = {t: 30.0 + 4.0 * one.result().seconds for t, one in zip(rows, plain, strict=True)}
        return list(pool.map(lambda one: run(*one, limits[one[1]]), drawn))


def report(drawn: Drawn, runs: list[Run], wanted: dict[str, float], known: Reasons) -> int:
    """Print what survived, and the shares found; 1 if one is less than wanted."""
    survived = [one for one, run in zip(drawn, runs, strict=True) if not run.failed]
    print("\nSurvived:" if survived else "\nNone survived.")
    for one in survived:
        why = known.get(one[2].key)
        print(_shown(*one) + (f"\n  equivalent: {why}" if why else ""))
    print(f"\n{'room':12} faults  found  survived  share  wanted")
    low = False
    for room in [*dict.fromkeys(one[0] for one in drawn), "all"]:
        count, left = (
            sum(one[0] == room or room == "all" for one in part if one[2].key not in known)
            for part in (drawn, survived)
        )
        share = 1.0 - left / max(count, 1)
        low |= share < wanted.get(room, 0.0)
        least = f"{wanted[room]:6.0%}" if room in wanted else ""
        print(f"{room:12} {count:6} {count - left:6} {left:9} {share:6.0%}  {least}")
    return int(low)


def _shown(room: str, tests: str, fault: Fault | None) -> str:
    if fault is None:
        return f"{room}: no fault: {tests}"
    return f"{room}: {fault.path}:{fault.line}\n- {fault.before}\n+ {fault.after}"


if __name__ == "__main__":
    sys.exit(main())
