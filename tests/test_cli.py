"""The command line: verbs, their options, output and exit codes. What a verb calls is replaced here."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mmjax.train.predict
import mmjax.train.run
import mmjax.train.score
from mmjax import config
from mmjax.cli import VERBS, main
from mmjax.experiment import Experiment

CONFIG = str(Path(__file__).parents[1] / 'configs' / 'easy_vqa.py')


@pytest.fixture
def calls(monkeypatch, tmp_path) -> list[Any]:
    """Records what `train`, `evaluate` and `predict` are called with, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    calls: list[Any] = []

    def record(result: dict[str, Any]) -> Any:
        def called(*args: Any, **kwargs: Any) -> dict[str, Any]:
            print('progress')
            calls.append((args, kwargs))
            return result

        return called

    answer = {'answer': [{'label': 'circle', 'probability': 0.75}], 'above_threshold': False}
    monkeypatch.setattr(mmjax.train.run, 'train', record({'test/accuracy': 0.99}))
    monkeypatch.setattr(mmjax.train.score, 'evaluate', record({'test/accuracy': 0.98}))
    monkeypatch.setattr(mmjax.train.predict, 'predict', record(answer))
    return calls


@pytest.fixture
def run(tmp_path) -> str:
    path = tmp_path / 'run'
    path.mkdir()
    (path / 'config.json').write_text(json.dumps(config.dump(config.load_file(CONFIG, kind=Experiment))))
    (path / 'manifest.json').write_text('{}')
    return str(path)


def test_help_lists_every_verb(capsys):
    assert main(['--help']) == 0
    said = capsys.readouterr().out
    assert all(f'\n  {verb} ' in said for verb in VERBS)


@pytest.mark.parametrize('verb', VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, '--help'])
    assert not stop.value.code
    assert f'usage: mmjax {verb}' in capsys.readouterr().out


def test_train_calls_train_with_the_config_as_it_is(calls, capsys):
    assert main(['train', CONFIG]) == 0
    [((experiment,), options)] = calls
    assert experiment == config.load_file(CONFIG, kind=Experiment)
    assert options == {'workdir': 'runs/easy_vqa', 'config_file': CONFIG, 'allow_drift': ()}
    assert 'test/accuracy' in capsys.readouterr().out


def test_train_applies_overrides_and_names_the_directory_by_them(calls):
    changes = ['model.fusion=bottleneck', '--model.fusion.num-tokens', '8', '--steps', '7']
    assert main(['train', CONFIG, *changes]) == 0
    assert main(['train', CONFIG, *changes, 'seed=1']) == 0
    assert main(['train', CONFIG, *changes[:1], '--workdir', 'w', *changes[1:]]) == 0
    (first, seeded, named) = calls
    experiment = first[0][0]
    assert (type(experiment.model.fusion).__name__, experiment.model.fusion.num_tokens) == ('Bottleneck', 8)
    assert experiment.steps == 7
    assert first[1]['workdir'] == f'runs/easy_vqa-{config.config_hash(experiment)[:8]}' != seeded[1]['workdir']
    assert named == ((experiment,), {'workdir': 'w', 'config_file': CONFIG, 'allow_drift': ()})


def test_train_hears_what_may_have_drifted(calls):
    assert main(['train', CONFIG, '--allow-drift', 'code', '--steps', '7', '--allow-drift', 'optim.decay']) == 0
    assert calls[0][1]['allow_drift'] == ('code', 'optim.decay') and calls[0][0][0].steps == 7


def test_train_takes_another_function_of_the_config(calls):
    assert main(['train', CONFIG.replace('easy_vqa', 'caption_emoji') + ':large']) == 0
    [((experiment,), options)] = calls
    assert experiment.name == 'caption_large' and options['workdir'] == 'runs/caption_emoji-large'


def test_help_of_a_config_lists_the_fields_of_the_swapped_model(calls, capsys):
    with pytest.raises(SystemExit) as stop:
        main(['train', CONFIG, 'model.fusion=bottleneck', '--help'])
    assert not stop.value.code and not calls
    assert '--model.fusion.num-tokens' in capsys.readouterr().out


def test_json_goes_to_a_file_or_alone_to_stdout(calls, capsys):
    assert main(['train', CONFIG, '--json', 'out.json']) == 0
    assert json.loads(Path('out.json').read_text()) == {'test/accuracy': 0.99}
    capsys.readouterr()
    assert main(['train', CONFIG, '--json', '-']) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == {'test/accuracy': 0.99}
    assert 'progress' in said.err


def test_eval_passes_overrides_and_trust_on(calls, run):
    assert main(['eval', run, '--batch-size', '8', '--trust', 'mine', '--trust', 'yours']) == 0
    assert calls == [((run,), {'by': '', 'overrides': ['--batch-size', '8'], 'trust': ('mine', 'yours')})]


def test_predict_takes_an_input_for_any_modality(calls, run, capsys):
    assert main(['predict', run, '--image', 'a.png', '--text=is it = 3?', '--top', '2', '--threshold', '0.9']) == 0
    assert calls == [
        ((run, {'image': 'a.png', 'text': 'is it = 3?'}), {'top': 2, 'threshold': 0.9, 'trust': ()}),
    ]
    said = capsys.readouterr().out
    assert '75.0%  circle' in said
    assert 'no answer reaches the threshold of 0.9' in said


def test_diff_tells_what_differs(run, tmp_path, capsys):
    experiment = config.load_file(CONFIG, kind=Experiment)
    other = tmp_path / 'other'
    other.mkdir()
    (other / 'config.json').write_text(json.dumps(config.dump(dataclasses.replace(experiment, seed=5))))
    (other / 'manifest.json').write_text('{}')
    assert main(['diff', run, run]) == 0
    assert capsys.readouterr().out == 'no difference\n'
    assert main(['diff', run, str(other)]) == 0
    assert capsys.readouterr().out == 'config:\n  seed: 0 -> 5\n'


@pytest.mark.parametrize(
    ('args', 'told'),
    [
        (['trian'], "no verb 'trian'; did you mean 'train'?"),
        (['fly'], "no verb 'fly'; there are train, eval"),
        (['train'], 'CONFIG'),
        (['train', 'nowhere.py'], 'nowhere.py: no such config file'),
        (['train', CONFIG, '--stpes', '3'], "no flag --stpes; did you mean '--steps'?"),
        (['train', CONFIG, '--workdri', 'x'], "no flag --workdri; did you mean '--workdir'?"),
        (['train', CONFIG, '--steps', 'many'], '--steps'),
        (['train', CONFIG, 'model.fusion=botleneck'], "no 'botleneck'; did you mean 'bottleneck'?"),
        (['train', CONFIG, 'model.fuson=late'], "no 'fuson' in model; did you mean 'fusion'?"),
        (['train', 'number.py'], 'number.py: experiment() returns a int; it must return a Experiment'),
        (['train', CONFIG, '--json', 'no/where.json'], "--json no/where.json: can't write into the directory no"),
        (['train', CONFIG, '--json', '.'], '--json .: is a directory; name a file'),
        (['train', ''], 'no such config file'),
        (['eval', 'nowhere'], 'nowhere: no such run directory'),
        (['eval', '.'], '.: holds no config.json, so it is not a run directory'),
        (['predict', 'nowhere', '--image', 'a.png'], 'nowhere: no such run directory'),
        (['predict', '.'], 'give at least one input'),
        (['predict', '.', '--image'], '--image: its value is missing'),
        (['predict', '.', '--text', 'is', 'it', 'red'], "'it' belongs to no flag; put quotes around a text"),
        (['predict', '.', '--top', 'x', '--image', 'a.png'], '--top'),
        (['diff', '.', 'nowhere'], 'holds no config.json'),
        (['diff', '.'], 'RUN'),
        (['reproduce', 'nowhere'], 'nowhere: no such run directory'),
        (['reproduce', '.', '--until', 'x'], '--until'),
        (['reproduce', '.', '--untli', '3'], '--until'),
        (['diff', '.', '.', '--jsno', 'x'], "unknown argument '--jsno'; did you mean '--json'?"),
    ],
)
def test_a_mistake_exits_2_in_two_lines(calls, args, told, capsys):
    Path('number.py').write_text('def experiment():\n    return 3\n')
    assert main(args) == 2
    said = capsys.readouterr().err
    assert said.startswith('mmjax: error: ') and told in said
    assert said.count('\n') <= 2 and 'Traceback' not in said


def test_an_interrupt_tells_how_to_go_on(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mmjax.train.run, 'train', interrupted)
    assert main(['train', CONFIG]) == 130
    assert 'the same command goes on from the last checkpoint' in capsys.readouterr().err


def test_a_bug_is_not_dressed_up_as_a_mistake(calls, monkeypatch):
    monkeypatch.setattr(mmjax.train.run, 'train', lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(['train', CONFIG])


def test_start_up_imports_no_jax():
    code = "import sys, mmjax.cli; sys.exit(bool({'jax', 'flax', 'numpy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, '-c', code], cwd=Path(__file__).parents[1]).returncode == 0
