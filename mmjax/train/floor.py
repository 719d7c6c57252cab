"""`scripts/floor CONFIG`: what captions score that are those of the training example with the nearest image.

The floor of a captioning recipe, from its own data: for each example that an evaluation scores, the training example
whose pixels are nearest (least squares over all inputs but the text), and its reference after the evaluation's own
transforms, so in the language that is asked for. Nothing is learned.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from einops import rearrange
from jaxtyping import Float

from mmjax import config
from mmjax.data import Data, Tfds, eval_batches
from mmjax.errors import UserError, nearest
from mmjax.evals.base import Columns
from mmjax.evals.captions import Captions
from mmjax.experiment import Evaluation, Experiment
from mmjax.train.files import check_writable

AT_ONCE = 256  # examples


def floors(experiment: Experiment, *, names: Sequence[str] = ()) -> dict[str, float]:
    """The metrics of every captioning evaluation, or of those that are named, as results are: `NAME/METRIC`.

    Raises:
        UserError: where there is no such evaluation.
    """
    there = {name: e for name, e in experiment.evals.items() if isinstance(e.evaluator, Captions)}
    for name in names:
        if name not in there:
            raise UserError(f'{name}: no evaluation of captions{nearest(name, there)} (there are {sorted(there)})')
    if len(experiment.data.parts) > 1:
        raise UserError(
            f'{experiment.name}: its data are a mixture of {list(experiment.data.parts)}; a floor is of one source: '
            'give a config whose data are the one that has the captions'
        )
    if not there:
        raise UserError(f'{experiment.name}: scores no captions; its evaluations are {sorted(experiment.evals)}')
    done, result = {}, {}
    for name in names or there:
        key = repr((there[name].data, there[name].evaluator))  # two ways to write one split have one floor
        if key not in done:
            done[key] = there[name].evaluator.metrics(nearest_captions(experiment, there[name]), {})
        result |= {f'{name}/{metric}': value for metric, value in done[key].items()}
    return result


def nearest_captions(experiment: Experiment, evaluation: Evaluation) -> Columns:
    """The columns that `Captions` keeps, of the references of the nearest training examples."""
    scored, source = evaluation.data, next(iter(experiment.data.parts.values())).source
    if isinstance(source, Tfds) and isinstance(scored.source, Tfds):  # with the references, which training may not read
        source = dataclasses.replace(scored.source, name=source.name, split=source.split)
    inputs = [name for name in experiment.model.inputs if name not in evaluation.predictor.texts.values()]
    evaluator = evaluation.evaluator
    assert isinstance(evaluator, Captions)
    known, captions = _read(dataclasses.replace(scored, source=source), evaluator, inputs)
    asked, wanted = _read(scored, evaluator, inputs)
    squares = (known**2).sum(axis=1)
    near = [(squares - 2 * asked[i : i + AT_ONCE] @ known.T).argmin(axis=1) for i in range(0, len(asked), AT_ONCE)]
    return {'written': captions['references'][np.concatenate(near), 0], 'references': wanted['references']}


def _read(data: Data, evaluator: Captions, inputs: Sequence[str]) -> tuple[Float[np.ndarray, 'n d'], Columns]:
    """All inputs of each example as one vector, and its references."""
    vectors, parts = [], []
    for batch in eval_batches(data, batch_size=AT_ONCE):
        real = batch['weight'] > 0
        vectors.append(np.concatenate([rearrange(batch[name][real], 'b ... -> b (...)') for name in inputs], axis=1))
        outputs = {evaluator.output: np.full(len(real), '')}
        columns = evaluator.predictions(outputs, batch)
        parts.append({name: column[real] for name, column in columns.items()})
    return (
        np.concatenate(vectors).astype(np.float64),
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]},
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 done, 2 the user's mistake."""
    parser = argparse.ArgumentParser(prog='scripts/floor', description=(__doc__ or '').splitlines()[0])
    parser.add_argument('config', metavar='CONFIG', help='Python file with def experiment(); of stages the last')
    parser.add_argument('names', nargs='*', metavar='EVALUATION', help='default: all that score captions')
    parser.add_argument('--json', metavar='FILE', help='also write the scores as flat JSON')
    given = parser.parse_args(argv)
    try:
        if given.json:
            check_writable(Path(given.json), flag='--json')
        made = config.load_stages(given.config, kind=Experiment)
        scores = floors(made[-1] if isinstance(made, tuple) else made, names=given.names)
    except UserError as error:
        print(f'mmjax: error: {error}', file=sys.stderr)
        return 2
    for name, value in scores.items():
        print(f'{name:32} {value:.4f}')
    if given.json:
        Path(given.json).write_text(json.dumps(scores, indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
