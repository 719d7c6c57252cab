"""`scripts/pretraining_gain`: what pretraining adds at each share of the labels, of several configs beside one another.

A config's stages `tuned_S` and `scratch_S` differ in where they start alone, for each share S. Both train at every
seed; the gain is the difference of their test accuracies, with an interval that resamples seeds and clusters.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmjax.config import load_stages, override_stages
from mmjax.config.files import name_of
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.study.clusters import clusters_of
from mmjax.study.statistics import arm_difference, arm_mean, interval
from mmjax.train.files import check_writable
from mmjax.train.stages import by_name, train_stages

TUNED, SCRATCH = 'tuned_', 'scratch_'


def measure(
    configs: Sequence[str], *, seeds: Sequence[int], workdir: str, overrides: Sequence[str] = (), clusters: str = ''
) -> dict[str, float]:
    """Trains what is missing in WORKDIR/CONFIG-SEED, prints the table, returns it flat: `CONFIG/S/gain`, `…/gain_low`.

    clusters: the field of the data of which examples with equal values are no independent evidence, such as an image's
    number; '': each is.

    Raises:
        UserError: on a config without such pairs of stages, fewer than 2 seeds, or whatever training refuses.
    """
    if len(set(seeds)) < 2:
        raise UserError(f'--seeds {" ".join(map(str, seeds))}: an interval over seeds takes two or more')
    recipes = {}
    for path in configs:
        written = load_stages(path, kind=Experiment)
        stages = by_name(written if isinstance(written, tuple) else (written,))
        if not _shares(stages):
            raise UserError(f'{path}: has no stages {TUNED}S and {SCRATCH}S to compare (it has {sorted(stages)})')
        for seed in seeds:
            changed = override_stages(stages, [*overrides, '--seed', str(seed)], prog='scripts/pretraining_gain')
            recipes[path, seed] = changed
    for (path, seed), stages in recipes.items():
        train_stages(stages, workdir=str(_directory(workdir, path, seed)), config_file=path)
    table: dict[str, float] = {}
    print(f'{"":12} {"labels":>8} {"from scratch":>14} {"pretrained":>12} {"gain":>8}   95 % interval')
    for path in configs:
        name, stages = name_of(path), recipes[path, seeds[0]]
        for share in _shares(stages):
            right = {
                kind: np.stack([_right(_directory(workdir, path, seed) / f'{kind}{share}') for seed in seeds])
                for kind in (TUNED, SCRATCH)
            }
            of = clusters_of(stages[f'{TUNED}{share}'].evals['test'].data, clusters, asker='--clusters')
            gain = arm_difference(right[TUNED], right[SCRATCH], clusters=of)
            means = {kind: arm_mean(x, clusters=of) for kind, x in right.items()}
            print(
                f'{name:12} {share:>8} {means[SCRATCH].estimate:14.4f} {means[TUNED].estimate:12.4f} '
                f'{gain.estimate:8.4f}   {gain.low:.4f} to {gain.high:.4f}',
                flush=True,
            )
            for what, mean in (('gain', gain), ('pretrained', means[TUNED]), ('scratch', means[SCRATCH])):
                told = interval(mean)
                table[f'{name}/{share}/{what}'] = told['estimate']
                table |= {f'{name}/{share}/{what}_{end}': told[end] for end in ('low', 'high')}
    return table


def _shares(stages: dict[str, Experiment]) -> list[str]:
    names = [name.removeprefix(TUNED) for name in stages if name.startswith(TUNED)]
    return [name for name in names if f'{SCRATCH}{name}' in stages]


def _directory(workdir: str, path: str, seed: int) -> Path:
    return Path(workdir, f'{name_of(path)}-{seed}')


def _right(run: Path) -> np.ndarray:
    with np.load(run / 'predictions' / 'test.npz') as columns:
        return columns['predicted'] == columns['target']


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='scripts/pretraining_gain', description=__doc__)
    parser.add_argument('configs', nargs='+', help='such as configs/vilbert.py configs/uniter.py configs/vlbert.py')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument('--workdir', default='runs/pretraining_gain', help='finished runs there count')
    parser.add_argument('--clusters', default='', help='field of the test data, such as image_id')
    parser.add_argument(
        '--set', nargs='+', default=[], metavar='PATH=VALUE', help='changes, such as pretrain.steps=400'
    )
    parser.add_argument('--json', metavar='FILE', help='also write the table as flat JSON')
    args = parser.parse_args(argv)
    try:
        if args.json:
            check_writable(Path(args.json), flag='--json')
        table = measure(
            args.configs, seeds=args.seeds, workdir=args.workdir, overrides=args.set, clusters=args.clusters
        )
    except UserError as error:
        print(f'mmjax: error: {error}', file=sys.stderr)
        return 2
    if args.json:
        Path(args.json).write_text(json.dumps(table, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
