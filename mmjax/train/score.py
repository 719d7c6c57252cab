"""The scores of every evaluation of a run, and what they are to be read against."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mmjax import config
from mmjax.data.tokenizer import check_vocabularies
from mmjax.data.transforms import transforms_of
from mmjax.distributed.group import say
from mmjax.evals.base import Columns
from mmjax.experiment import Experiment
from mmjax.sharding import check_batch
from mmjax.train.directory import load_experiment
from mmjax.train.evaluate import Scorer
from mmjax.train.prepare import shapes_of_batch
from mmjax.train.resume import restore
from mmjax.train.state import mesh_of
from mmjax.train.texts import check_texts


def evaluate(run: str, *, by: str = '', overrides: Sequence[str] = (), trust: Sequence[str] = ()) -> dict[str, float]:
    """Scores the newest checkpoint of a run on the splits of its config, changed by `overrides`. Writes nothing.

    by: CONFIG[:FUNCTION], whose evaluations take the place of its own.
    """
    experiment = load_experiment(run, trust=trust)
    if by:
        experiment = dataclasses.replace(experiment, evals=config.load_file(by, kind=Experiment).evals)
    trained = transforms_of(experiment.data)
    experiment = config.override(experiment, list(overrides), prog=f'mmjax eval {run}')
    check_vocabularies({run: trained, 'data': transforms_of(experiment.data)})
    experiment.check()
    check_texts(experiment)
    batch = shapes_of_batch(experiment)
    mesh = mesh_of(experiment, batch)
    check_batch(experiment.batch_size, mesh)
    state = restore(run, experiment, mesh, batch)
    results, _ = score_all(experiment, state.evaluated, Scorer(experiment, mesh))
    show_references(experiment, results)
    return results


def score_all(experiment: Experiment, params: Any, scorer: Scorer) -> tuple[dict[str, float], dict[str, Columns]]:
    """Every evaluation: flat results `NAME/METRIC`, and the per-example columns by NAME."""
    results, columns = {}, {}
    for name, evaluation in experiment.evals.items():
        scores, columns[name] = scorer.score(evaluation, params)
        results |= {f'{name}/{metric}': value for metric, value in scores.items()}
    return results, columns


def show_references(experiment: Experiment, results: Mapping[str, float]) -> None:
    """Prints what each evaluation's scores are to be read against."""
    for name, evaluation in experiment.evals.items():
        if evaluation.references:
            own = {metric.removeprefix(f'{name}/'): x for metric, x in results.items() if metric.startswith(f'{name}/')}
            for what, scores in ((name, own), ('  to read it against', evaluation.references)):
                say(f'{what}: ' + ', '.join(f'{metric} {value:.4f}' for metric, value in scores.items()))
