"""Attribution in a study: what its row holds, and that the page can show it."""

import json

import numpy as np
import pytest

from mmjax.attribution.methods import METHODS
from mmjax.study.examined import _named
from mmjax.study.explained import Explanation, explained
from mmjax.study.pictures import picture
from mmjax.study.study import Arm, Study
from mmjax.train.prepare import shapes_of_batch
from tests.train import toy
from tests.train.test_lanes import small


def test_explained(monkeypatch):
    monkeypatch.setattr('mmjax.study.explained.STEPS', 16)
    experiment = toy.experiment(model=small())
    params = toy.drawn(experiment, shapes_of_batch(experiment)).params
    how = Explanation(
        toy.data(rows=20),
        examples=10,
        classes=('no', 'yes'),
        image='image',
        objects=lambda images: np.ones(images.shape[:3], bool),
        pictures=4,
    )
    told = json.loads(json.dumps(explained(how, experiment, params)))  # as the ledger keeps it
    assert set(told) == {*METHODS, 'pictures'}
    for method in METHODS:
        assert sum(told[method]['share'].values()) == pytest.approx(1, abs=1e-4)
        assert abs(told[method]['randomised']) < 0.9 and ('incomplete' in told[method]) == (method == METHODS[0])
        assert told[method]['pointing'] == {'hits': 1.0, 'chance': 1.0}  # the object is everywhere
        areas = told[method]['areas']
        assert areas['difference'] == pytest.approx(areas['negative'] - areas['positive'])
    assert len(told['pictures']) == 4
    assert {p['answer'] == p['target'] for p in told['pictures']} == {True, False}  # failures too
    study = Study('toy', experiment, (Arm('early'),), 'early', explanation=how)
    named = _named(told['pictures'][0], study)
    assert [word for word, _ in named['words']] in (['same'], ['other']) and named['answer_name'] in ('no', 'yes')
    assert 'data:image/svg+xml' in picture(named)
