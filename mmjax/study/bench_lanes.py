"""`scripts/bench_lanes`: how many runs an hour a study makes, against one process a run; ratios of one machine.

The work is an arm of experiments/fusion_synergy.py: train and evaluate validation and test, for so many seeds. Three
ways: `mmjax train` once a run; one process, one run after the other in one program; one process, all of them side by
side (`jax.vmap`). Each way's time includes its start and its compilation, without a cache on disk.
"""

import argparse
import dataclasses
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from mmjax.experiment import Experiment
from mmjax.train.files import write_json
from mmjax.train.manifest import code_version

STUDY = 'experiments/fusion_synergy.py'
RESULT = Path('experiments', 'bench', 'lanes.json')
GOAL = 2.5


def alone(seed: int, directory: str) -> None:
    """One run, as `mmjax train` does it."""
    from mmjax.train.run import train

    train(dataclasses.replace(_experiment(), seed=seed), workdir=str(Path(directory, str(seed))), report=False)


def as_lanes(runs: int, together: int) -> None:
    """All runs in this process."""
    from mmjax.train.lanes import Lanes
    from mmjax.train.prepare import shapes_of_batch
    from mmjax.train.score import score_all

    experiment = _experiment()
    lanes = Lanes(experiment, shapes_of_batch(experiment), experiment.mesh.build())
    for start in range(0, runs, together):
        seeds = range(start, min(start + together, runs))
        for lane in lanes.train([dataclasses.replace(experiment, seed=seed) for seed in seeds]):
            score_all(experiment, lane.params, lanes.scorer)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='scripts/bench_lanes', description=__doc__)
    parser.add_argument('--runs', type=int, default=20, help='runs of an arm, 20 or so in a study (default: 20)')
    parser.add_argument('--alone', type=int, default=3, help='of which this many are timed alone (default: 3)')
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as directory:
        each = sum(_timed(f'alone({seed}, {directory!r})') for seed in range(args.alone)) / args.alone
    one_by_one = _timed(f'as_lanes({args.runs}, 1)') / args.runs
    side_by_side = _timed(f'as_lanes({args.runs}, {args.runs})') / args.runs
    result = {
        'runs': args.runs,
        'ratio_lanes': round(each / one_by_one, 2),
        'ratio_vmapped': round(each / side_by_side, 2),
        'goal': GOAL,
        'cores': len(os.sched_getaffinity(0)),
        'python': platform.python_version(),
        'commit': code_version()['commit'],
    }
    print(f'runs an hour, against one process a run (goal {GOAL}):')
    print(f'  one after the other in one program  {result["ratio_lanes"]}')
    print(f'  side by side in one program         {result["ratio_vmapped"]}')
    RESULT.parent.mkdir(exist_ok=True)
    write_json(RESULT, result)
    return 0 if result['ratio_lanes'] >= GOAL else 1


def _experiment() -> Experiment:
    from mmjax.config import load_file
    from mmjax.study.study import Study

    return load_file(STUDY, kind=Study, function='study').experiment('early', rate=1e-3)


def _timed(call: str) -> float:
    """Seconds of a call in a process of its own."""
    code = f'from mmjax.study.bench_lanes import alone, as_lanes\n{call}'
    started = time.monotonic()
    subprocess.run([sys.executable, '-c', code], check=True, stderr=subprocess.DEVNULL)
    return time.monotonic() - started


if __name__ == '__main__':
    sys.exit(main())
