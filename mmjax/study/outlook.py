"""How much of a study is left, and how long it will take."""

import statistics
from dataclasses import dataclass

from mmjax.study.plan import Plan, Rows


@dataclass(frozen=True)
class Outlook:
    """Runs, the grids of learning rates being as they are now. hours: of one process; None where no run is known."""

    done: int
    left: int
    hours: float | None


def outlook(plan: Plan, rows: Rows, *, seconds: float | None = None) -> Outlook:
    """Of a study with these rows in its ledger. seconds: of a run, where no row tells it."""
    wanted = [run.key for runs in plan.wanted(rows) for run in runs]
    done = [rows[key] for key in wanted if key in rows]  # rows of an earlier form of the study are not among them
    later = sum(plan.chosen(place, rows) is None for place in plan.places) * len(plan.study.seeds)
    left = len(wanted) - len(done) + later
    if done:
        seconds = statistics.median(row['seconds'] for row in done)  # a machine that slept is in the mean
    return Outlook(len(done), left, None if seconds is None else left * seconds / 3600)
