"""A run that writes, as a whole: it learns what two drawings are called in two languages, is scored, and is asked."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL.Image
import pytest

from mmjax.data import (
    AnyLanguage,
    Data,
    Example,
    Image,
    InLanguage,
    Item,
    Mixture,
    PromptAnswer,
    Reader,
    References,
    Source,
    Words,
)
from mmjax.decoders.tokens import TokenLogits
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.lora import LoraEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.errors import UserError
from mmjax.evals.captions import Captions
from mmjax.experiment import Checkpoint, Evaluation, Experiment, Log
from mmjax.fusion.early import Early
from mmjax.fusion.film import Film
from mmjax.generate.generate import Generate
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.objectives.masked import MaskedTokens
from mmjax.objectives.next_token import NextToken
from mmjax.optim import AdamW, WarmupConstant
from mmjax.train.floor import floors
from mmjax.train.floor import main as floor_of
from mmjax.train.predict import _check_prompt, predict
from mmjax.train.run import train
from mmjax.views.masked import MaskedImage, MaskedText
from mmjax.views.together import Together

LANGUAGES, NAMES = ('en', 'de'), (('dark night', 'dunkle nacht'), ('bright day', 'heller tag'))
TRUST = (__name__.split('.')[0],)
TEXT = PromptAnswer(
    Words(
        key='text',
        vocabulary=('bright', 'dark', 'day', 'de', 'dunkle', 'en', 'heller', 'nacht', 'night', 'tag'),
        length=6,
    )
)


@dataclass(frozen=True)
class Drawings(Source):
    rows: int = 64
    first: int = 0

    def open(self) -> Reader:
        return DrawingsReader(self)


class DrawingsReader(Reader):
    def __init__(self, source: Drawings):
        self.source, self.labels, self.fingerprint = source, {}, 'drawings'

    def __len__(self) -> int:
        return self.source.rows

    def read(self, rows: Sequence[int]) -> list[Example]:
        return [self.example(self.source.first + row) for row in rows]

    @staticmethod
    def example(row: int) -> Example:
        rng = np.random.default_rng(row)
        bright = int(rng.integers(2))
        image = rng.integers(0, 100, (8, 8, 3)).astype(np.uint8) + np.uint8(150 * bright)
        return {'image': image, 'text': list(NAMES[bright]), 'references': list(NAMES[bright])}


def scored(language: str) -> Data:
    named = (Item('references', LANGUAGES.index(language)), References(length=20))
    return Data(Drawings(rows=20, first=1000), (Image('image', size=8), InLanguage(LANGUAGES, language), TEXT, *named))


def experiment(**changes) -> Experiment:
    block = Block(attention=Attention(heads=2))
    settings = {
        'name': 'captions',
        'model': Model(
            encoders={
                'image': PatchEncoder(width=16, patch=8, depth=0),
                'text': TokenEncoder(vocabulary=TEXT.size, width=16, depth=0),
            },
            fusion=Early(depth=1, block=block),
            decoders={'text': TokenLogits(vocabulary=TEXT.size)},
        ),
        'data': Data(
            Drawings(),
            (Image('image', size=8), Item('references'), References(length=20), AnyLanguage(LANGUAGES), TEXT),
        ),
        'objectives': {'caption': NextToken()},
        'evals': {
            name: Evaluation(scored(name), Captions(), predictor=Generate(end=TEXT.end, length=TEXT.length))
            for name in LANGUAGES
        },
        'optim': AdamW(schedule=WarmupConstant(peak=1e-2, warmup=5)),
        'steps': 80,
        'batch_size': 16,
        'checkpoint': Checkpoint(every=80),
        'log': Log(every=20, tensorboard=False),
    }
    return Experiment(**(settings | changes))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp('runs') / 'captions'
    return directory, train(experiment(), workdir=str(directory), report=False)


def test_it_writes_what_it_sees_in_the_language_that_is_asked_for(run, tmp_path):
    directory, results = run
    assert results['en/exact_match'] == results['de/exact_match'] == 1 and results['de/chrf'] == pytest.approx(100)
    stored = np.load(directory / 'predictions' / 'de.npz')
    assert set(stored['written']) == {'dunkle nacht', 'heller tag'} == set(stored['references'][:, 0])

    PIL.Image.fromarray(np.full((8, 8, 3), 200, np.uint8)).save(tmp_path / 'day.png')
    for language, name in zip(LANGUAGES, NAMES[1], strict=True):
        answer = predict(str(directory), {'image': str(tmp_path / 'day.png'), 'text': f'{language}:'}, trust=TRUST)
        assert answer['text']['text'] == name and -0.5 < answer['text']['score'] <= 0
    with pytest.raises(UserError, match=r"--text: 'dee:' is no prompt .*did you mean 'de:'\? \(they are en:, de:\)"):
        predict(str(directory), {'text': 'dee:'}, trust=TRUST)


def test_the_prompts_of_a_mixture_are_those_of_all_its_sources():
    image = Image('image', size=8)
    sources = {name: Data(Drawings(), (image, InLanguage(LANGUAGES, name), TEXT)) for name in LANGUAGES}
    mixed = experiment(data=Mixture(sources, dict.fromkeys(sources, 1.0)))
    for language in LANGUAGES:
        _check_prompt(mixed, 'text', f'{language}:')
    with pytest.raises(UserError, match=r'they are en:, de:'):
        _check_prompt(mixed, 'text', 'fr:')


def test_the_floor_is_the_name_of_the_nearest_drawing():
    found = floors(experiment())
    assert found['en/exact_match'] == found['de/exact_match'] == 1  # brightness is all there is to these drawings
    far = experiment(data=dataclasses.replace(experiment().data, source=Drawings(rows=1)))  # of which there is one
    expected = np.mean(
        [DrawingsReader.example(1000 + i)['text'] == DrawingsReader.example(0)['text'] for i in range(20)]
    )
    assert floors(far, names=['de']).get('de/exact_match') == pytest.approx(expected)
    mixed = dataclasses.replace(
        experiment(), data=Mixture({'a': experiment().data, 'b': experiment().data}, {'a': 1.0, 'b': 1.0})
    )
    with pytest.raises(UserError, match=r"its data are a mixture of \['a', 'b'\]"):
        floors(mixed)
    with pytest.raises(UserError, match="dee: no evaluation of captions; did you mean 'de'"):
        floors(experiment(), names=['dee'])


def test_the_floor_of_stages_is_that_of_the_last(tmp_path, capsys):
    (tmp_path / 'staged.py').write_text(
        'import dataclasses\nfrom tests.train.test_captioning import experiment as captions\n\n'
        'def experiment():\n    return dataclasses.replace(captions(), evals={}), captions()\n'
    )
    assert floor_of([str(tmp_path / 'staged.py'), 'en', '--json', str(tmp_path / 'floor.json')]) == 0
    assert json.loads((tmp_path / 'floor.json').read_text())['en/exact_match'] == 1
    assert 'en/exact_match                   1.0000' in capsys.readouterr().out
    assert floor_of([str(tmp_path / 'staged.py'), 'fr']) == 2
    assert 'no evaluation of captions' in capsys.readouterr().err


def refused(match, **changes):
    with pytest.raises(UserError, match=match):
        train(experiment(**changes), workdir='nowhere', report=False)


def test_what_can_not_be_learned_or_read_is_told_before_training():
    model, evaluation = experiment().model, experiment().evals['de']
    refused('objectives.caption: model.fusion is Film', model=model.clone(fusion=Film()), evals={})
    refused(
        rf'model.decoders.text.vocabulary is 12, but the tokenizer of text in data has {TEXT.size} ids',
        model=model.clone(decoders={'text': TokenLogits(vocabulary=12)}),
        evals={},
    )
    wrapped = {**model.encoders, 'text': LoraEncoder(module=TokenEncoder(vocabulary=9, width=16))}
    refused(
        rf'model.encoders.text.module.vocabulary is 9, but the tokenizer of text in data has {TEXT.size} ids',
        model=model.clone(encoders=wrapped),
        evals={},
    )
    view = Together((MaskedImage(), MaskedText(TEXT.size + 1)))
    refused(
        rf'objectives.words.view.views.1.vocabulary is {TEXT.size + 1}, but the tokenizer of text',
        objectives={'words': MaskedTokens(view=view)},
        evals={},
    )
    wrong = dataclasses.replace(evaluation, predictor=Generate(end=1, length=6))
    refused(rf'evals.de.predictor.end is 1, but a text of its data ends with {TEXT.end}', evals={'de': wrong})
    plain = dataclasses.replace(evaluation, data=dataclasses.replace(evaluation.data, transforms=()))
    refused('evals.de.data: no transform reads the text that is written', evals={'de': plain})
