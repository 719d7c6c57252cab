"""Where ids meet the tokenizer that knows what they mean: outputs are read, and vocabularies are compared."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import numpy as np

from mmjax.data import Feed
from mmjax.data.transforms import transforms_of
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.generate.base import Predictor
from mmjax.views.base import View


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
    """Raises UserError where a vocabulary has fewer ids than that of the data, one that ids are drawn from has not as
    many, or what is written could not be read.
    """
    datas = {f'data {name}'.strip(): part for name, part in experiment.data.parts.items()}
    datas |= {f'evals.{name}.data': evaluation.data for name, evaluation in experiment.evals.items()}
    for where, data in datas.items():
        for named in _vocabularies(experiment):
            size = getattr(find_tokenizer(data, named.modality), 'size', None)
            if size is not None and (named.size < size or (named.drawn and named.size > size)):
                raise UserError(
                    f'{named.path}.vocabulary is {named.size}, but the tokenizer of {named.modality} in {where} has '
                    f'{size} ids; set it to {size}'
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


class _Named(NamedTuple):
    """A vocabulary in a config: where, of which modality, how large, and whether ids are drawn from it."""

    path: str
    modality: str
    size: int
    drawn: bool = False


def _vocabularies(experiment: Experiment) -> Iterator[_Named]:
    model = experiment.model
    for name, encoder in model.encoders.items():
        for part, path in _within(encoder, f'model.encoders.{name}'):
            if hasattr(part, 'vocabulary'):
                yield _Named(path, name, part.vocabulary)
    for name, decoder in model.decoders.items():
        if hasattr(decoder, 'vocabulary') and len(decoder.streams) == 1:
            yield _Named(f'model.decoders.{name}', decoder.streams[0], decoder.vocabulary)  # pyright: ignore
    for group in ('objectives', 'evals'):
        for name, asker in getattr(experiment, group).items():
            for part, path in _within(asker, f'{group}.{name}'):  # the views that it sees
                if hasattr(part, 'vocabulary'):
                    yield _Named(path, part.modality, part.vocabulary, drawn=True)


def _within(part: Any, path: str) -> Iterator[tuple[Any, str]]:
    """A module, a view, or what sees views, and the modules and views that it holds, with their paths."""
    yield part, path
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if isinstance(value, nn.Module | View):
            yield from _within(value, f'{path}.{field.name}')
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                if isinstance(item, nn.Module | View):
                    yield from _within(item, f'{path}.{field.name}.{i}')
