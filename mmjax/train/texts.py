"""Where ids meet the tokenizer that knows what they mean: outputs are read, and vocabularies are compared."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from mmjax.data import Feed
from mmjax.data.transforms import transforms_of
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.generate.base import Predictor


def find_tokenizer(data: Feed, modality: str) -> Any:
    """The transform that writes the ids of a modality and reads them; None where there is none."""
    found = [t for t in transforms_of(data) if hasattr(t, 'decode') and getattr(t, 'key', None) == modality]
    return found[-1] if found else None


def read_texts(outputs: Mapping[str, np.ndarray], predictor: Predictor, data: Feed) -> dict[str, np.ndarray]:
    """The outputs with those that are ids of a text [b n] as texts [b]."""
    read = {}
    for name, modality in predictor.texts.items():
        if name in outputs:
            tokenizer = find_tokenizer(data, modality)
            read[name] = np.array([tokenizer.decode(ids) for ids in outputs[name]], dtype=np.str_)
    return {**outputs, **read}


def check_texts(experiment: Experiment) -> None:
    """Raises UserError where a vocabulary is not that of the data, or what is written could not be read."""
    datas = {f'data {name}'.strip(): part for name, part in experiment.data.parts.items()}
    datas |= {f'evals.{name}.data': evaluation.data for name, evaluation in experiment.evals.items()}
    for (where, data), (part, modality, vocabulary, exact) in itertools.product(
        datas.items(), _vocabularies(experiment)
    ):
        size = getattr(find_tokenizer(data, modality), 'size', 0)
        if size > vocabulary or (exact and 0 < size < vocabulary):
            raise UserError(
                f'{part}.vocabulary is {vocabulary}, but the tokenizer of {modality} in {where} has {size} ids; set it '
                f'to {size}'
            )
    for name, evaluation in experiment.evals.items():
        for modality in evaluation.predictor.texts.values():
            tokenizer = find_tokenizer(evaluation.data, modality)
            if tokenizer is None:
                raise UserError(
                    f'evals.{name}.data: no transform reads the {modality} that is written; add PromptAnswer'
                )
            said, ends = getattr(evaluation.predictor, 'end', None), getattr(tokenizer, 'end', None)
            if said is not None and said != ends:
                raise UserError(f'evals.{name}.predictor.end is {said}, but a {modality} of its data ends with {ends}')


def _vocabularies(experiment: Experiment) -> Iterator[tuple[str, str, int, bool]]:
    """Where a vocabulary is named, of which modality and size; and whether ids are drawn from it, so that one that is
    too large is wrong too.
    """
    model = experiment.model
    for name, encoder in model.encoders.items():
        for path, size in _held(encoder, f'model.encoders.{name}'):
            yield path, name, size, False
    for name, decoder in model.decoders.items():
        if hasattr(decoder, 'vocabulary') and len(decoder.streams) == 1:
            yield f'model.decoders.{name}', decoder.streams[0], decoder.vocabulary, False  # pyright: ignore
    for name, objective in experiment.objectives.items():
        for view in getattr(objective.view, 'views', (objective.view,)):
            if hasattr(view, 'vocabulary'):
                yield f'objectives.{name}.view', view.modality, view.vocabulary, True


def _held(module: nn.Module, path: str) -> Iterator[tuple[str, int]]:
    """The vocabularies of a module and of those that it wraps."""
    if hasattr(module, 'vocabulary'):
        yield path, module.vocabulary  # pyright: ignore
    for field in dataclasses.fields(module):
        if isinstance(part := getattr(module, field.name), nn.Module):
            yield from _held(part, f'{path}.{field.name}')
