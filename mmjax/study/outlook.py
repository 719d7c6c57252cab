"""How much of a study is left, and how long it will take."""

import statistics
from collections import Counter
from dataclasses import dataclass

from mmjax.study.plan import Plan, Rows


@dataclass(frozen=True)
class Outlook:
    """Runs, the grids of learning rates being as they are now. hours: of one process; None where no run is known.

    What two places share, as the reference of two regimes does, is trained once: of what is `left` it counts once, of
    what is `done` for each.
    """

    done: int
    left: int
    hours: float | None


def outlook(plan: Plan, rows: Rows, *, seconds: float | None = None) -> Outlook:
    """Of a study with these rows in its ledger. seconds: of a run, where no row tells it."""
    places = list(plan.wanted(rows))
    wanted = [run for runs in places for run in runs]
    done = [run for run in wanted if run.key in rows]  # rows of an earlier form of the study are not among them
    trained = {run.work for run in done}
    missing = {run.work: run.phase for run in wanted if run.work not in trained}
    tuned = {runs[0].program for runs in places if any(run.phase == 'final' for run in runs)}
    untuned = {runs[0].program for runs in places} - tuned
    left = Counter(missing.values()) + Counter({'final': len(untuned) * len(plan.study.seeds)})
    known = {phase: [rows[run.key]['seconds'] for run in done if run.phase == phase] for phase in left}
    if done:  # the median, as a machine that slept is in the mean
        seconds = statistics.median(rows[run.key]['seconds'] for run in done)
    each = {phase: statistics.median(known[phase]) if known[phase] else seconds for phase in left}
    hours = None if seconds is None else sum(count * (each[phase] or 0) for phase, count in left.items()) / 3600
    return Outlook(len(done), left.total(), hours)
