"""Stages of one config, by the command line: killed, gone on with, and what cannot be."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import mmjax.train.loop
import mmjax.train.run
from mmjax.cli import main
from mmjax.errors import UserError
from mmjax.experiment import Checkpoint, InitFrom
from mmjax.train.stages import by_name, check_stages, train_stages
from tests.train import toy
from tests.train.test_init import saved, write

TWO = '''
"""Pretraining, then a linear probe on it."""

from dataclasses import replace

from mmjax.experiment import Checkpoint, InitFrom
from mmjax.optim import AdamW, WarmupConstant
from tests.train import toy


def experiment():
    schedule = WarmupConstant(peak=1e-2, warmup=0)
    first = toy.experiment(
        name='pretrain', steps=3, evals={}, optim=AdamW(schedule=schedule), checkpoint=Checkpoint(every=1)
    )
    probe = replace(
        first,
        name='probe',
        evals=toy.experiment().evals,
        optim=AdamW(schedule=schedule, rates={'*': 0.0, 'decoders_answer': 1.0}),
        init_from=InitFrom(stage='pretrain', left_out=('decoders_answer',)),
    )
    return first, probe
'''


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mmjax.train.run, 'write_report', lambda *args, **kwargs: None)  # takes seconds
    Path('two.py').write_text(TWO)
    return tmp_path


def counting(monkeypatch, *, stop):
    """Counts the batches of training, and interrupts before the one called `stop`."""
    given, original = [], mmjax.train.loop.train_batches

    def batches(data, **kwargs):
        stream = original(data, **kwargs)
        try:
            while True:
                if len(given) == stop:
                    raise KeyboardInterrupt
                given.append(kwargs['start'])
                yield next(stream)
        finally:
            stream.close()

    monkeypatch.setattr(mmjax.train.loop, 'train_batches', batches)
    return given


def test_what_is_finished_is_not_done_again_and_what_was_stopped_goes_on(here, monkeypatch, capsys):
    command = ['train', 'two.py', '--workdir', 'w', '--seed', '4', '--probe.steps', '4', '--json', 'out.json']
    with monkeypatch.context() as patch:
        given = counting(patch, stop=5)  # of the second stage, two steps are done
        assert main(command) == 130
    assert given == [0, 0, 0, 0, 0] and not Path('w/probe/results.json').exists()
    first = {path: path.stat().st_mtime_ns for path in Path('w/pretrain').rglob('*') if 'json' not in path.name}
    with monkeypatch.context() as patch:
        given = counting(patch, stop=None)
        assert main(command) == 0
    assert given == [2, 2]
    assert first == {path: path.stat().st_mtime_ns for path in first}
    results = json.loads(Path('out.json').read_text())
    assert results == {f'probe/{k}': v for k, v in json.loads(Path('w/probe/results.json').read_text()).items()}
    assert {'probe/test/accuracy', 'probe/test/loss'} <= results.keys()
    rows = Path('w/probe/metrics.jsonl').read_text().splitlines()
    assert [json.loads(row)['step'] for row in rows] == [1, 2, 3, 4]

    pretrained, probed = saved(Path('w/pretrain'), part='params'), saved(Path('w/probe'), part='params')
    for path, x in pretrained.items():
        if not path.startswith('decoders_answer'):
            np.testing.assert_array_equal(probed[path], x, err_msg=path)
    configs = [json.loads(Path(f'w/{stage}/config.json').read_text()) for stage in ('pretrain', 'probe')]
    assert [config['seed'] for config in configs] == [4, 4] and [config['steps'] for config in configs] == [3, 4]
    assert configs[1]['init_from']['stage'] == 'pretrain' and not configs[1]['init_from']['run']  # wherever w lies

    capsys.readouterr()
    assert main(['eval', 'w/probe', '--trust', 'tests']) == 0 and 'test/accuracy' in capsys.readouterr().out
    assert main(['diff', 'w/pretrain', 'w/probe']) == 0
    assert 'init_from/step' in capsys.readouterr().out

    # Had the first gone on since, what started from it would be of another state.
    written = json.loads(Path('w/probe/init.json').read_text())
    Path('w/probe/init.json').write_text(json.dumps(written | {'step': 2}))
    assert main(command) == 2
    assert 'w/probe: started from step 2 of w/pretrain, which is at step 3 now' in capsys.readouterr().err


def test_a_run_to_start_from_by_a_flag(here, monkeypatch, capsys):
    Path('one.py').write_text(
        'from tests.train import toy\n\n\ndef experiment():\n    return toy.experiment(steps=2, evals={})\n'
    )
    assert main(['train', 'one.py', '--workdir', 'b', '--init-from.run', 'nowhere']) == 2
    assert 'init_from: nowhere is no run with a checkpoint' in capsys.readouterr().err
    assert main(['train', 'one.py', '--init-from.map', 'a', 'b']) == 2
    assert 'name it in init_from.run' in capsys.readouterr().err
    write(Path('a'), toy.experiment(evals={}))
    flags = ['--init-from.run', 'a', '--init-from.map', 'encoders_image/patches', 'encoders_image/patches']
    rates = ['--optim.rates', 'encoders_*', '0', 'fusion', '0.1']
    capsys.readouterr()
    assert main(['train', 'one.py', '--workdir', 'b', *flags, '--init-from.left-out', 'decoders_*', *rates]) == 0
    said = capsys.readouterr().err
    assert 'starting from a, step 2, moving average:' in said and 'parameters train' in said
    before, after = saved(Path('a'), part='ema'), saved(Path('b'), part='ema')
    for path, x in before.items():
        assert np.array_equal(after[path], x) == path.startswith('encoders_') or not x.any(), path


@pytest.mark.parametrize(
    ('args', 'told'),
    [
        (['--stpes', '3'], "--stpes: begins with no stage, and no stage has such a field; did you mean '--steps'?"),
        (['--prob.steps', '3'], "did you mean '--probe'?"),
        (['--probe.init-from.stage', 'pretran'], "init_from.stage 'pretran' is no stage; did you mean 'pretrain'?"),
        (['--probe.init-from.stage', 'probe'], "init_from.stage 'probe' is itself (earlier ones: pretrain)"),
        (['--probe.name', 'x'], "stage probe: is called 'x' now"),
        (['--probe.init-from.left-out', 'decoder'], "'decoder' is no parameter; did you mean 'decoders_answer'?"),
        (['--probe.init-from.map', 'x', 'y'], "the old run has no 'x'"),
        (['--probe.model.encoders.text.vocabulary', '9'], 'embedding has shape (9, 16), and encoders_text'),
        (['--pretrain.optim.rates', 'fusio', '0'], "optim.rates: 'fusio' is no parameter; did you mean 'fusion'?"),
    ],
)
def test_a_mistake_in_any_stage_is_told_before_the_first_one_trains(here, args, told, capsys):
    assert main(['train', 'two.py', '--workdir', 'w', *args]) == 2
    assert told in capsys.readouterr().err
    assert not Path('w').exists()


def test_help_of_stages(here, capsys):
    with pytest.raises(SystemExit) as stop:
        main(['train', 'two.py', '--help'])
    assert not stop.value.code
    said = capsys.readouterr().out
    assert '--pretrain.steps' in said and '--probe.init-from.stage' in said


@pytest.mark.parametrize(
    ('returned', 'told'), [('()', 'a tuple of nothing'), ('(3,)', 'a tuple of int'), ('3', 'a int')]
)
def test_a_file_that_returns_something_else(here, returned, told, capsys):
    Path('three.py').write_text(f'def experiment():\n    return {returned}\n')
    assert main(['train', 'three.py']) == 2
    assert f'{told}; it must return a Experiment' in capsys.readouterr().err


def staged(*names, **sources):
    return [toy.experiment(name=name, init_from=InitFrom(stage=sources.get(name, ''))) for name in names]


def test_links_between_stages():
    check_stages(by_name(staged('a', 'b', 'c', c='a', b='a')))
    with pytest.raises(UserError, match=r"stage a: init_from.stage 'b' is a later stage \(earlier ones: none\)"):
        train_stages(by_name(staged('a', 'b', a='b')), workdir='nowhere')
    with pytest.raises(UserError, match="stage 'a': two stages have this name"):
        by_name(staged('a', 'a'))
    for name in ('', '../x', 'a.b', 'model', '1a', 'a b'):
        with pytest.raises(UserError, match='give it one of letters'):
            by_name([dataclasses.replace(toy.experiment(), name=name, checkpoint=Checkpoint())])
