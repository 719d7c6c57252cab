"""Runs whose data are partly of no use."""

import dataclasses
import json
import math

import pytest

from mmjax.cli import main
from mmjax.data import Data
from mmjax.errors import BadExample, UserError
from mmjax.failpoints import VARIABLE
from mmjax.train.bad_records import BadRecords
from mmjax.train.metrics import Writers, read_rows
from mmjax.train.run import train
from tests.train import toy

BAD = {3, 14, 15, 92}


@dataclasses.dataclass(frozen=True)
class Torn(toy.Toy):
    def open(self):
        return TornReader(self.rows)


class TornReader(toy.ToyReader):
    def read(self, rows):
        if torn := [row for row in rows if row in BAD]:
            raise BadExample(f'row {torn[0]} is torn', reason='torn')
        return super().read(rows)


def experiment(**changes):
    made = toy.experiment(evals={}, **changes)
    assert isinstance(made.data, Data)
    return dataclasses.replace(made, data=dataclasses.replace(made.data, source=Torn()))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp('bad') / 'run'
    train(experiment(bad_records=0.1), workdir=str(path), report=False)
    return path


def test_they_are_named_and_counted(run):
    rows = read_rows(run / 'bad_records.jsonl')
    assert {row['row'] for row in rows} == BAD and {row['reason'] for row in rows} == {'torn'}
    for row in read_rows(run / 'metrics.jsonl'):
        assert row.get('bad_records', 0) == sum(one['step'] <= row['step'] for one in rows)


def test_a_run_that_goes_on_names_the_same(run, tmp_path, monkeypatch):
    (tmp_path / 'config.py').write_text(
        'from tests.train import test_bad_records\n\ndef experiment():\n'
        '    return test_bad_records.experiment(bad_records=0.1)\n'
    )
    command = ['train', str(tmp_path / 'config.py'), '--workdir', str(tmp_path / 'run')]
    monkeypatch.setenv(VARIABLE, 'loop/batch@9=term')
    assert main(command) == 143
    monkeypatch.delenv(VARIABLE)
    assert main(command) == 0
    for name in ('bad_records.jsonl', 'metrics.jsonl'):
        assert (tmp_path / 'run' / name).read_text() == (run / name).read_text()


def test_too_many_end_the_run_and_more_may_be_allowed(run, tmp_path):
    with pytest.raises(UserError, match=r'of \d+ examples \d+ could not be used \(torn \d+\), more than the share 0 '):
        train(experiment(bad_records=0.0), workdir=str(tmp_path / 'run'), report=False)
    assert read_rows(tmp_path / 'run' / 'bad_records.jsonl')
    train(experiment(bad_records=0.1), workdir=str(tmp_path / 'run'), report=False)
    assert (tmp_path / 'run' / 'bad_records.jsonl').read_text() == (run / 'bad_records.jsonl').read_text()


@pytest.mark.parametrize('share', [0.0, 0.01, 0.3])
def test_a_run_ends_where_chance_makes_no_such_number_of_the_share(share, tmp_path):
    """Three standard deviations of the binomial distribution above its mean."""
    most = math.floor(160 * share + 3 * math.sqrt(160 * share * (1 - share)))
    for met, ends in ((most, False), (most + 1, True)):
        (tmp_path / f'{met}').mkdir()
        writers = Writers(tmp_path / f'{met}', step=0, tensorboard=False, wandb=False, config={})
        records = BadRecords(experiment(bad_records=share), writers, say=lambda _: None)
        records.meet([{'place': i, 'row': i, 'source': None, 'reason': 'torn', 'told': ''} for i in range(met)])
        if ends:
            with pytest.raises(UserError, match='raise bad_records'):
                records.settle(10)
        else:
            assert records.settle(10) == ({'bad_records': float(met)} if met else {})


@pytest.mark.parametrize('share', [-0.1, 1.1])
def test_a_share_is_a_share(share):
    with pytest.raises(UserError, match=r'bad_records: .* is no share'):
        experiment(bad_records=share).check()


def test_rows_are_json(run):
    assert all(json.loads(line) for line in (run / 'bad_records.jsonl').read_text().splitlines())
