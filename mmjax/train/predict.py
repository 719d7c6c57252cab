"""The answer of a run's model to one input of a user."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from scipy.special import softmax

from mmjax.data.transforms import prepare, transforms_of
from mmjax.errors import UserError, nearest
from mmjax.experiment import Experiment
from mmjax.generate.base import FORWARD, Predictor
from mmjax.sharding import MeshShape
from mmjax.storage import path_of
from mmjax.train.directory import load_experiment
from mmjax.train.files import read_json
from mmjax.train.passes import cast
from mmjax.train.resume import restore
from mmjax.train.texts import find_tokenizer, read_texts


def predict(
    run: str, inputs: Mapping[str, str], *, top: int = 3, threshold: float = 0.0, trust: Sequence[str] = ()
) -> dict[str, Any]:
    """Runs encoders, fusion and decoders on one input, on one device.

    inputs: by modality, a text, or the path of a file for anything else. A modality that is left out is absent.

    The prompt of a text that the model writes is given as that text; left out, it is empty.

    Returns:
        For each classifying decoder, `[{'label', 'probability'}, …]`, the likeliest first; with them `above_threshold`:
        whether the likeliest label of every decoder is at least as probable as `threshold`. For each text that an
        evaluation of the run lets the model write, `{'text', 'score'}`, as the first of those evaluations writes it.

    Raises:
        UserError: on a model that neither classifies nor writes, a modality that it has no encoder for, a file that
            cannot be read, a prompt that training had none of.
    """
    if not 0 <= threshold <= 1:
        raise UserError(f'--threshold: {threshold} is no probability; give a number from 0 to 1')
    if top < 1:
        raise UserError(f'--top: {top} is below 1')
    experiment = load_experiment(run, trust=trust)
    classifiers = [name for name, decoder in experiment.model.decoders.items() if hasattr(decoder, 'classes')]
    writers = _writers(experiment)
    if not classifiers and not writers:
        raise UserError(
            f'{run}: the model has no classifier and no evaluation lets it write; its outputs are '
            f'{sorted(experiment.model.decoders)}'
        )
    batch = {name: np.asarray(value)[None] for name, value in _example(experiment, inputs).items()}
    mesh = MeshShape(data=1).build(jax.devices()[:1])
    params = restore(run, experiment, mesh, batch).evaluated
    answers: dict[str, Any] = {}
    for writer in writers:
        outputs = read_texts(_ask(writer, experiment, params, batch), writer, experiment.data)
        answers |= {
            name: {'text': str(outputs[name][0]), 'score': float(outputs[f'{name}/score'][0])} for name in writer.texts
        }
    if not classifiers:
        return answers
    outputs, labels = _ask(FORWARD, experiment, params, batch), _labels(run, experiment)
    for name in classifiers:
        probabilities = softmax(np.asarray(outputs[name], np.float64)[0])
        answers[name] = [
            {'label': labels[name][i] if name in labels else str(i), 'probability': float(probabilities[i])}
            for i in np.argsort(-probabilities, kind='stable')[:top].tolist()
        ]
    return answers | {'above_threshold': all(answers[name][0]['probability'] >= threshold for name in classifiers)}


def _ask(predictor: Predictor, experiment: Experiment, params: Any, batch: Any) -> dict[str, np.ndarray]:
    program = jax.jit(lambda params, batch: predictor(experiment.model, cast(params, experiment.precision), batch))
    return {name: np.asarray(x) for name, x in program(params, batch).items()}


def _writers(experiment: Experiment) -> list[Predictor]:
    """For each text that is written, the predictor of the first evaluation that has it written."""
    found: dict[str, Predictor] = {}
    for evaluation in experiment.evals.values():
        for name in evaluation.predictor.texts:
            found.setdefault(name, evaluation.predictor)
    return list(dict.fromkeys(found.values()))


def _example(experiment: Experiment, inputs: Mapping[str, str]) -> dict[str, Any]:
    """The user's input through the deterministic transforms of training: the model's fields, without a batch axis."""
    modalities = experiment.model.inputs
    for name in inputs:
        if name not in modalities:
            raise UserError(
                f'--{name}: the model has no such modality{nearest(name, modalities)} (it has {modalities})'
            )
    raw: dict[str, Any] = dict.fromkeys(modalities)
    written = {name for writer in _writers(experiment) for name in writer.texts.values()}
    raw |= {name: ('', '') for name in written}  # prompt and answer
    for name, value in inputs.items():
        if name in written:
            _check_prompt(experiment, name, value)
            raw[name] = (value, '')
        else:
            raw[name] = value if find_tokenizer(experiment.data, name) else _read(name, value)
    transforms = [t for t in transforms_of(experiment.data) if getattr(t, 'key', None) in modalities]
    prepared = prepare(raw, transforms)
    for name in modalities:
        if np.asarray(prepared[name]).dtype.kind in 'SUO':
            why = 'no transform of the config reads it from a file, or says what stands for it where it is left out'
            if any(getattr(t, 'key', None) == name for t in transforms):
                why = 'only random transforms of the config read it, and predict draws nothing'
            raise UserError(f'--{name}: {why}; train with one that does, such as Image or CentralCrop of images')
    return {name: value for name, value in prepared.items() if name.split('/')[0] in modalities}


def _check_prompt(experiment: Experiment, modality: str, value: str) -> None:
    """Raises UserError where the data have a list of prompts without this one."""
    transforms = [t for part in experiment.data.parts.values() for t in part.transforms]
    of_text = [t for t in transforms if getattr(t, 'key', None) == modality]
    prompts = list(dict.fromkeys(p for transform in of_text for p in getattr(transform, 'prompts', ())))
    if prompts and value not in prompts:
        raise UserError(
            f"--{modality}: '{value}' is no prompt that the model was trained with{nearest(value, prompts)} (they "
            f'are {", ".join(prompts)})'
        )


def _read(name: str, path: str) -> bytes:
    try:
        return path_of(path).read_bytes()
    except OSError as error:
        raise UserError(f'--{name} {path}: {error.strerror or error}') from error


def _labels(run: str, experiment: Experiment) -> dict[str, list[str]]:
    """Names of the classes of each output: those of the field that its objective lets it predict."""
    by_field = read_json(path_of(run) / 'manifest.json').get('labels', {})
    targets = {getattr(o, 'output', None): getattr(o, 'target', None) for o in experiment.objectives.values()}
    return {output: by_field[target] for output, target in targets.items() if output and target in by_field}
