"""The files of configs/expected, and the reading and writing of such files."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mmjax.errors import UserError
from mmjax.train.expected import ROOT, Expected, evaluation_of, names, read, recipe_of, write

GOOD = {
    'config': 'recipe.py',
    'metric': 'test/accuracy',
    'command': 'scripts/check good',
    'threshold': 0.9,
    'seeds': [0, 1],
}


def put(root: Path, **fields) -> Path:
    path = root / 'configs/expected/good.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({key: value for key, value in (GOOD | fields).items() if value != 'left out'}))
    return path


@functools.cache
def recipe_called(name):
    """With its last seed: read once, for a recipe with stages takes a while."""
    expected = read(name)
    return recipe_of(expected, seed=expected.seeds[-1])


@pytest.mark.parametrize('name', names())
def test_every_file_fits_its_recipe(name):
    expected = read(name)
    assert expected.command == f'scripts/check {name}'
    recipe = recipe_called(name)
    stages = recipe.values() if isinstance(recipe, dict) else [recipe]
    assert {stage.seed for stage in stages} == {expected.seeds[-1]}
    found = [evaluation_of(recipe, expected, metric=name) for name in (expected.metric, expected.over) if name]
    whole = dict.fromkeys(('predicted', 'target', 'by', 'group'), np.arange(2)) | {'present': np.ones(2, bool)}
    numbers = ('probability', 'loss', 'score', 'accuracy', 'best')
    parts = dict.fromkeys(numbers, np.ones(2)) | dict.fromkeys(('a', 'b', 'x'), np.eye(2))
    parts |= {'written': np.array(['a', 'b']), 'references': np.array([['a'], ['b']])}
    labels = {'style': ('noto', 'openmoji'), 'kind': ('non-relational', 'relational')}
    for evaluation, metric in found:
        assert metric in evaluation.evaluator.metrics(whole | parts, labels)


@pytest.mark.parametrize('name', names())
def test_what_was_measured_meets_what_is_expected(name):
    expected = read(name)
    if expected.results is not None:
        assert set(expected.results) == {str(seed) for seed in expected.seeds}
        assert not expected.failures({int(seed): score for seed, score in expected.results.items()})
    if not expected.needs:  # two cores, which is where it is measured
        assert all(minutes < 15 for minutes in (expected.minutes or {}).values())


def test_every_recipe_is_expected_to_reach_something():
    recipes = {path.name for path in ROOT.glob('configs/*.py') if path.name != '__init__.py'}
    assert recipes == {Path(read(name).config).name for name in names()}


@pytest.mark.parametrize('name', names())
def test_the_floor_is_among_the_references_of_the_evaluation(name):
    expected = read(name)
    evaluation, _ = evaluation_of(recipe_called(name), expected, metric=expected.metric)
    assert dict(expected.floor).items() <= evaluation.references.items()


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'treshold': 0.9}, "no field 'treshold'; did you mean 'threshold'?"),
        ({'metric': 'left out'}, 'metric is missing'),
        ({'metric': 3}, r'metric is 3; it takes a text such as "test/accuracy"'),
        ({'threshold': '0.9'}, "threshold is '0.9'; it takes a number"),
        ({'threshold': True}, 'threshold is True'),
        ({'threshold': None}, 'give threshold, .* or at_most'),
        ({'at_most': 0.9}, 'one of the two'),
        ({'floor': {'chance': None}}, 'floor is'),
        ({'floor': None}, 'floor is None'),
        ({'overrides': 'steps=3'}, 'it takes a list of texts'),
        ({'by': 'recipe.py:others', 'overrides': ['steps=3']}, 'by is of the run of a recipe as it is written'),
        ({'seeds': []}, 'seeds is'),
        ({'seeds': [1, 1]}, 'seeds is'),
        ({'seeds': [True]}, 'seeds is'),
        ({'seeds': 3}, 'seeds is 3'),
        ({'results': {'7': 0.9}}, r'results has 7, which seeds \[0, 1\] has not'),
        ({'results': {'0': None}}, 'results is'),
        ({'results': {'0': 0.9}, 'minutes': {'1': 2.0}}, r'minutes has 1, which results \[0\] has not'),
    ],
)
def test_a_field_that_makes_no_sense_is_named(tmp_path, fields, message):
    put(tmp_path, **fields)
    with pytest.raises(UserError, match=message):
        read('good', root=tmp_path)


@pytest.mark.parametrize(('content', 'message'), [('{', 'is no JSON'), ('[]', 'holds a list')])
def test_a_file_that_is_no_expectation(tmp_path, content, message):
    put(tmp_path).write_text(content)
    with pytest.raises(UserError, match=message):
        read('good', root=tmp_path)


def test_an_unknown_name_gets_the_nearest(tmp_path):
    put(tmp_path)
    with pytest.raises(UserError, match=r"goood: has no .*; did you mean 'good'\?"):
        read('goood', root=tmp_path)


def test_what_is_left_out_has_a_default(tmp_path):
    put(tmp_path, seeds='left out')
    assert read('good', root=tmp_path) == Expected('recipe.py', 'test/accuracy', 'scripts/check good', threshold=0.9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5), st.floats(0, 1), st.floats(0, 1))
def test_bounds_hold_when_nothing_is_missed(scores, bound, each):
    by_seed = dict(enumerate(scores))
    least = Expected('c', 'm', 'k', threshold=bound, each=each)
    assume(not np.isclose(np.mean(scores), bound))  # which of the two is larger depends on the order of the sum
    assert (not least.failures(by_seed)) == (np.mean(scores) >= bound and min(scores) >= each)
    assert (not Expected('c', 'm', 'k', at_most=bound).failures(by_seed)) == (max(scores) <= bound)


def test_nan_misses_every_bound():
    bounds = ({'threshold': 0.0}, {'threshold': 0.0, 'each': 0.0}, {'at_most': 1.0})
    assert [len(Expected('c', 'm', 'k', **b).failures({0: float('nan')})) for b in bounds] == [1, 2, 1]


def test_writing_changes_the_results_of_these_seeds_and_nothing_else(tmp_path):
    path = put(tmp_path, results={'1': 0.95}, floor={'chance': 0.5})
    before = json.loads(path.read_text())
    write('good', {0: 0.91}, minutes={}, root=tmp_path)
    assert json.loads(path.read_text()) == before | {'results': {'0': 0.91, '1': 0.95}}
    assert list(json.loads(path.read_text())) == list(before)
    assert [file.name for file in path.parent.iterdir()] == ['good.json']
    write('good', {0: 0.92, 1: 0.96}, minutes={1: 2.5}, root=tmp_path)
    assert json.loads(path.read_text()) == before | {'results': {'0': 0.92, '1': 0.96}, 'minutes': {'1': 2.5}}
    assert read('good', root=tmp_path).minutes == {'1': 2.5}
    with pytest.raises(UserError, match='--write: seed 7'):
        write('good', {7: 0.9}, minutes={}, root=tmp_path)
