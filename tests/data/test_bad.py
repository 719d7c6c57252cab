"""Examples that cannot be used, against the same data without them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

from mmjax.data import Bytes, Data, Mixture, Packed, Tokens, eval_batches, open_data, train_batches
from mmjax.data.bad import Bad, common, kinds, usable
from mmjax.data.base import Example, Reader, Source
from mmjax.data.permuted import Permuted
from mmjax.errors import BadExample, UserError

ROWS = 40


@dataclass(frozen=True)
class Harmed(Source):
    """Rows 7 and 8 cannot be read, 20 is of another shape, 30 has no text, 33 another field; or all are good."""

    bad: bool = True
    rows: int = ROWS

    def open(self) -> Reader:
        return HarmedReader(self)


class HarmedReader(Reader):
    def __init__(self, source: Harmed):
        self.source, self.labels, self.fingerprint = source, {}, f'harmed/{source}'

    def __len__(self) -> int:
        return self.source.rows

    def read(self, rows: Sequence[int]) -> list[Example]:
        return [self._example(row) for row in rows]

    def _example(self, row: int) -> Example:
        bad = self.source.bad
        if bad and row in (7, 8):
            raise BadExample(f'row {row} is torn', reason='torn')
        x = np.full(3 if bad and row == 20 else 2, row, np.float32)
        odd = {'more': np.int32(1)} if bad and row == 33 else {}
        return {'x': x, 'text': '' if bad and row == 30 else f'no. {row}'} | odd


REASONS = {7: 'torn', 8: 'torn', 20: 'other shape', 30: 'empty text', 33: 'other fields'}


def data(*, bad=True, cache=False, **changes):
    return Data(Harmed(bad), (Bytes(8),), cache=cache, **changes)


def epoch(feed, *, batches=ROWS // 8, rows=None):
    found = []
    stream = train_batches(feed, batch_size=8, seed=4, rows=rows, bad=found.extend)
    made = list(itertools.islice(stream, batches))
    stream.close()
    return made, found


@pytest.mark.parametrize('workers', [0, 1])
def test_a_substitute_has_no_weight_and_all_others_are_where_they_were(workers):
    harmed, told = epoch(data(workers=workers))
    whole, nothing = epoch(data(bad=False))
    assert {one['row']: one['reason'] for one in told} == REASONS and len(told) == 5 and not nothing
    for ours, theirs in zip(harmed, whole, strict=True):
        assert ours.keys() == theirs.keys() and np.array_equal(ours['index'], theirs['index'])
        good = np.array([row not in REASONS for row in theirs['index']])
        assert np.array_equal(ours['weight'], good.astype(np.float32)) and theirs['weight'].all()
        assert np.array_equal(ours['x'][good], theirs['x'][good]) and ours['x'].shape == theirs['x'].shape
        assert np.array_equal(ours['text'][good], theirs['text'][good])


def test_places_are_those_of_the_stream():
    made, told = epoch(data())
    for one in told:
        assert made[one['place'] // 8]['index'][one['place'] % 8] == one['row']


@pytest.mark.parametrize('cache', [False, True])
def test_who_reads_makes_no_difference(cache):
    _, told = epoch(data())
    parts = [epoch(data(cache=cache), rows=range(2 * p, 2 * p + 2))[1] for p in range(4)]
    assert sorted((x for part in parts for x in part), key=lambda x: x['place']) == told


def test_who_does_not_ask_is_told_at_the_first():
    stream = train_batches(data(), batch_size=ROWS, seed=4)
    with pytest.raises(BadExample, match=r'^row \d+: '):
        next(stream)


@pytest.mark.parametrize('cache', [False, True])
def test_scores_are_of_all_or_not_told(cache):
    with pytest.raises(BadExample, match='row 7 is torn'):
        list(eval_batches(data(cache=cache), batch_size=8))


def test_what_is_wrong_with_all_is_an_error_of_the_first():
    def make(places):
        raise BadExample(f'{places[0][0]}', reason='x')

    with pytest.raises(BadExample, match=r'^3$'):
        usable([(3, 3)], make, length=100)
    with pytest.raises(BadExample, match=r'^1$'):
        common([lambda: make([(1, 1)])])


def test_a_substitute_may_come_from_far_away():
    def make(places):
        if places[0][0] < 90:
            raise BadExample('torn', reason='x')
        return [{'x': places[0][0]}]

    (found,) = usable([(3, 5)], make, length=100)
    assert found['x'] >= 90 and found['bad'] == (Bad(3, 'x', 'torn'),) and found['weight'] == 0


def test_most_examples_say_how_all_are():
    small, large = {'x': np.zeros(2)}, {'x': np.zeros(3)}
    assert common([lambda: large, lambda: small, lambda: small]) == kinds(small)


def test_the_source_of_a_mixture_is_told():
    mixture = Mixture({'good': data(bad=False), 'harmed': data()}, {'good': 1.0, 'harmed': 1.0})
    _, told = epoch(mixture, batches=2 * ROWS // 8)
    assert {one['source'] for one in told} == {1} and {one['row'] for one in told} == set(REASONS)


def test_what_has_a_field_of_a_bad_example_is_bad():
    made, told = epoch(Permuted(data(), ('text',)))
    assert len(told) > len(REASONS)
    for one in told:
        assert made[one['place'] // 8]['weight'][one['place'] % 8] == 0


def test_a_packed_row_is_without_them():
    packed = Packed(data(), {'text': 30})
    made, told = epoch(packed, batches=2)
    assert {one['row'] for one in told} <= {7, 8, 30}  # of any shape, as a row takes
    assert told and all(batch['weight'].all() for batch in made)
    texts = Bytes(400).decode(np.concatenate([batch['text'].ravel() for batch in made]))
    assert 'no. 9' in texts and 'no. 7n' not in texts and not texts.endswith('no. 7')


@pytest.mark.parametrize('cache', [False, True])
def test_they_have_no_length(cache, tmp_path, monkeypatch):
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))
    (lengths,) = open_data(data(cache=cache)).lengths(Tokens())
    assert [int(row) for row in np.flatnonzero(lengths == 0)] == [7, 8, 30, *([33] if cache else [])]
    assert lengths[9] == len('no. 9')


def test_the_error_goes_from_process_to_process():
    error = ForkingPickler.loads(ForkingPickler.dumps(BadExample('it is torn', reason='torn')))
    assert isinstance(error, UserError) and (str(error), error.reason) == ('it is torn', 'torn')
