"""`scripts/blend_weights`: measures the weights of gradient blending for an arm of a study, which then fixes them."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

import jax
import numpy as np

from mmjax.balance.blending import blend_weights
from mmjax.config import load_file
from mmjax.data import Data
from mmjax.errors import UserError
from mmjax.evals.accuracy import Accuracy
from mmjax.experiment import Evaluation, Experiment
from mmjax.study.controls import classifying
from mmjax.study.remedies import pilots
from mmjax.study.study import Study
from mmjax.train.lanes import Lanes
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.score import score_all


def measured_weights(experiment: Experiment, *, split: str = 'validation') -> dict[str, float]:
    """`blend_weights` of the experiment's objectives, each having trained alone for as long as the experiment does.

    The losses are cross-entropies, without smoothing, of the initial and of the last parameters, on the training data
    and on an evaluation's data, as the objective sees them.

    Raises:
        UserError: where the experiment has no such evaluation, not two classifying objectives, one that diverges, or
            `blend_weights` has no answer.
    """
    if len(experiment.objectives) < 2:
        raise UserError(f'blend_weights: {sorted(experiment.objectives)} is nothing to weigh; see `with_heads`')
    if split not in experiment.evals:
        raise UserError(f"blend_weights: no evaluation '{split}' (there are {sorted(experiment.evals)})")
    if not isinstance(experiment.data, Data):
        raise UserError(f'blend_weights: measures on one split, and data is a {type(experiment.data).__name__}')
    data = {'train': experiment.data, 'validation': experiment.evals[split].data}
    losses: dict[str, dict[str, list[float]]] = {name: {} for name in data}
    for name, pilot in pilots(experiment).items():
        _, objective = classifying(pilot, asker='blend_weights')
        evaluator = Accuracy(output=objective.output, target=objective.target)
        evals = {where: Evaluation(d, evaluator, view=objective.view) for where, d in data.items()}
        pilot = dataclasses.replace(pilot, evals=evals)
        lanes = Lanes(pilot, shapes_of_batch(pilot), pilot.mesh.build())
        first = jax.tree.map(lambda x: x[0], lanes.begin([pilot])[0].evaluated)
        (lane,) = lanes.train([pilot])
        if lane.diverged:
            raise UserError(f'blend_weights: {name} alone diverged in step {lane.last_finite}; lower the rate')
        scores = [score_all(pilot, params, lanes.scorer)[0] for params in (first, lane.params)]
        for where in data:
            losses[where][name] = [score[f'{where}/loss'] for score in scores]
        told = '; '.join(f'{where} {" -> ".join(f"{x:.6f}" for x in losses[where][name])}' for where in data)
        print(f'{name} alone: {told}', file=sys.stderr, flush=True)
    train, validation = ({name: np.array(values) for name, values in losses[where].items()} for where in data)
    return blend_weights(train, validation)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='scripts/blend_weights', description=__doc__)
    parser.add_argument('study', help='such as experiments/fusion_remedies.py')
    parser.add_argument('arm', help='one whose base has several objectives, as `with_heads` makes them')
    parser.add_argument('--rate', type=float, default=1.2e-3, help='peak learning rate (default: 1.2e-3)')
    args = parser.parse_args(argv)
    try:
        study = load_file(args.study, kind=Study, function='study')
        weights = measured_weights(study.experiment(args.arm, rate=args.rate))
    except UserError as error:
        print(f'mmjax: {error}', file=sys.stderr)
        return 2
    print(json.dumps({name: round(weight, 4) for name, weight in weights.items()}))
    return 0


if __name__ == '__main__':
    sys.exit(main())
