"""The answer of a run's model to one input of a user."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scipy.special import softmax

from mmjax.data.transforms import prepare, transforms_of
from mmjax.errors import UserError, nearest
from mmjax.experiment import Experiment
from mmjax.sharding import MeshShape
from mmjax.train.directory import load_experiment
from mmjax.train.files import read_json
from mmjax.train.run import restore
from mmjax.train.step import predict_step


def predict(
    run: str, inputs: Mapping[str, str], *, top: int = 3, threshold: float = 0.0, trust: Sequence[str] = ()
) -> dict[str, Any]:
    """Runs encoders, fusion and decoders on one input, on one device.

    inputs: by modality, a text, or the path of a file for anything else. A modality that is left out is absent.

    Returns:
        For each classifying decoder, `[{'label', 'probability'}, …]`, the likeliest first; and `above_threshold`:
        whether the likeliest label of every decoder is at least as probable as `threshold`.

    Raises:
        UserError: on a model that does not classify, a modality that it has no encoder for, a file that cannot be read.
    """
    if not 0 <= threshold <= 1:
        raise UserError(f'--threshold: {threshold} is no probability; give a number from 0 to 1')
    if top < 1:
        raise UserError(f'--top: {top} is below 1')
    experiment = load_experiment(run, trust=trust)
    classifiers = [name for name, decoder in experiment.model.decoders.items() if hasattr(decoder, 'classes')]
    if not classifiers:
        raise UserError(f'{run}: the model has no classifier, its outputs are {sorted(experiment.model.decoders)}')
    batch = {name: np.asarray(value)[None] for name, value in _example(experiment, inputs).items()}
    mesh = MeshShape(data=1).build(jax.devices()[:1])
    state = restore(run, experiment, mesh, batch)
    outputs = jax.jit(lambda params, batch: predict_step(params, batch, experiment=experiment))(state.evaluated, batch)
    labels = _labels(run, experiment)
    answers: dict[str, Any] = {}
    for name in classifiers:
        probabilities = softmax(np.asarray(outputs[name], np.float64)[0])
        answers[name] = [
            {'label': labels[name][i] if name in labels else str(i), 'probability': float(probabilities[i])}
            for i in np.argsort(-probabilities, kind='stable')[:top].tolist()
        ]
    return answers | {'above_threshold': all(answer[0]['probability'] >= threshold for answer in answers.values())}


def _example(experiment: Experiment, inputs: Mapping[str, str]) -> dict[str, Any]:
    """The user's input through the deterministic transforms of training: the model's fields, without a batch axis."""
    modalities = experiment.model.inputs
    for name in inputs:
        if name not in modalities:
            raise UserError(
                f'--{name}: the model has no such modality{nearest(name, modalities)} (it has {modalities})'
            )
    raw: dict[str, Any] = dict.fromkeys(modalities)
    for name, value in inputs.items():
        raw[name] = value if _is_text(experiment, name) else _read(name, value)
    prepared = prepare(raw, [t for t in transforms_of(experiment.data) if getattr(t, 'key', None) in modalities])
    return {name: value for name, value in prepared.items() if name.split('/')[0] in modalities}


def _is_text(experiment: Experiment, modality: str) -> bool:
    return any(hasattr(t, 'decode') and getattr(t, 'key', None) == modality for t in transforms_of(experiment.data))


def _read(name: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UserError(f'--{name} {path}: {error.strerror}') from error


def _labels(run: str, experiment: Experiment) -> dict[str, list[str]]:
    """Names of the classes of each output: those of the field that its objective lets it predict."""
    by_field = read_json(Path(run, 'manifest.json')).get('labels', {})
    targets = {getattr(o, 'output', None): getattr(o, 'target', None) for o in experiment.objectives.values()}
    return {output: by_field[target] for output, target in targets.items() if output and target in by_field}
