"""A run as a whole: resuming, killing, evaluating, predicting, and what users get wrong."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from mmjax.config import dump
from mmjax.data import Data, RandomCrop, train_batches
from mmjax.errors import UserError
from mmjax.experiment import Log
from mmjax.optim import WarmupCosine
from mmjax.sharding import MeshShape
from mmjax.train.directory import load_experiment
from mmjax.train.files import write_json
from mmjax.train.predict import predict
from mmjax.train.resume import restore
from mmjax.train.run import train
from mmjax.train.score import evaluate
from tests.train import toy

TRUST = ('tests',)


@pytest.fixture(scope='module', autouse=True)
def optimized():
    """Compiled as users' programs are, here and in what a test starts: these are claims about bits."""
    before = jax.config.read('jax_disable_most_optimizations')
    jax.config.update('jax_disable_most_optimizations', False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('JAX_DISABLE_MOST_OPTIMIZATIONS', '0')
        yield
    jax.config.update('jax_disable_most_optimizations', before)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
    """An uninterrupted run, and its results."""
    run = tmp_path_factory.mktemp('runs') / 'whole'
    return run, train(toy.experiment(), workdir=str(run))


def last_state(run):
    experiment = load_experiment(str(run), trust=TRUST)
    batch = next(train_batches(experiment.data, batch_size=1, seed=0))
    return jax.tree.leaves(restore(str(run), experiment, MeshShape(data=1).build(jax.devices()[:1]), batch))


def assert_same_run(a, b):
    for x, y in zip(last_state(a), last_state(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))
    assert (a / 'metrics.jsonl').read_bytes() == (b / 'metrics.jsonl').read_bytes()
    assert (a / 'results.json').read_bytes() == (b / 'results.json').read_bytes()


def test_a_run_leaves_what_the_design_promises(finished):
    run, results = finished
    there = {path.name for path in run.iterdir()}
    assert {
        'config.json',
        'manifest.json',
        'metrics.jsonl',
        'timing.jsonl',
        'results.json',
        'report.html',
        'predictions',
    } <= there
    assert json.loads((run / 'results.json').read_text()) == results
    assert sorted(int(path.name) for path in (run / 'checkpoints').iterdir()) == [8, 12]
    assert (run / 'checkpoints' / '12' / 'state').is_dir()
    steps = [json.loads(line)['step'] for line in (run / 'metrics.jsonl').read_text().splitlines()]
    assert steps == list(range(1, 13))
    predictions = np.load(run / 'predictions' / 'test.npz')
    assert sorted(predictions['index']) == list(range(21))  # each once: the filler of the last batch is gone
    assert results['test/accuracy'] == pytest.approx((predictions['predicted'] == predictions['target']).mean())
    manifest = json.loads((run / 'manifest.json').read_text())
    assert manifest['labels'] == {'answer': ['no', 'yes']} and manifest['data']['train'] == 'toy'
    assert load_experiment(str(run), trust=TRUST) == toy.experiment()


def test_the_same_command_on_a_finished_run_gives_its_results(finished):
    run, results = finished
    before = {path: path.stat().st_mtime_ns for path in run.rglob('*') if path.name != 'config.json'}
    assert train(toy.experiment(), workdir=str(run)) == results
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob('*') if path.name != 'config.json'}


def test_a_finished_run_tells_its_results_without_its_data(finished, monkeypatch):
    def gone(source):
        raise UserError('the data set is gone')

    monkeypatch.setattr(toy.Toy, 'open', gone)
    assert train(toy.experiment(), workdir=str(finished[0])) == finished[1]


KILLED = """
import sys
from mmjax.train.run import train
from tests.train import toy
train(toy.experiment(), workdir=sys.argv[1])
"""


def test_killed_and_resumed_is_bitwise_the_uninterrupted_run(finished, tmp_path):
    run = tmp_path / 'killed'
    log = run / 'metrics.jsonl'
    process = subprocess.Popen(
        [sys.executable, '-c', KILLED, str(run)],
        env=os.environ | {'PYTHONPATH': os.pathsep.join(['.', *sys.path])},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if log.exists() and log.read_bytes().count(b'\n') >= 5:
            break
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, 'it ended before it could be killed'
    assert not (run / 'results.json').exists()
    with log.open('a') as file:
        file.write('{"step": 99')  # a line cut off
    train(toy.experiment(), workdir=str(run))
    assert_same_run(run, finished[0])


def test_a_run_goes_on_where_its_schedule_allows(finished, tmp_path):
    short = tmp_path / 'short'
    train(toy.experiment(steps=7), workdir=str(short))
    train(toy.experiment(), workdir=str(short))
    assert_same_run(short, finished[0])


def test_resuming_with_everything_on_is_bitwise_too(tmp_path):
    """The parts read by a worker, the whole without one."""
    changes = {
        'optim': dataclasses.replace(toy.experiment().optim, accumulate=2),
        'precision': 'bfloat16',
        'log': Log(every=2, tensorboard=False),
    }
    train(toy.experiment(steps=6, **changes), workdir=str(tmp_path / 'whole'))
    changes['data'] = dataclasses.replace(toy.data(random=True), workers=1)
    train(toy.experiment(steps=3, **changes), workdir=str(tmp_path / 'parts'))
    train(toy.experiment(steps=6, **changes), workdir=str(tmp_path / 'parts'))
    assert_same_run(tmp_path / 'parts', tmp_path / 'whole')


def test_a_cosine_run_cannot_be_prolonged(tmp_path):
    optim = dataclasses.replace(toy.experiment().optim, schedule=WarmupCosine(warmup=1))
    train(toy.experiment(optim=optim, steps=2), workdir=str(tmp_path))
    with pytest.raises(UserError, match='another config: steps was 2 and is 4'):
        train(toy.experiment(optim=optim, steps=4), workdir=str(tmp_path))


def test_another_mesh_may_go_on(finished, tmp_path):
    """8 devices, then one: the same examples and draws, so the same run up to rounding."""
    train(toy.experiment(steps=7, mesh=MeshShape(fsdp=2, tensor=2)), workdir=str(tmp_path))
    results = train(toy.experiment(), workdir=str(tmp_path))
    assert results['test/loss'] == pytest.approx(finished[1]['test/loss'], rel=1e-4)


def test_eval_repeats_the_results(finished):
    run, results = finished
    assert evaluate(str(run), trust=TRUST) == pytest.approx(results)
    assert evaluate(str(run), overrides=['--batch-size', '8'], trust=TRUST) == pytest.approx(results, rel=1e-5)


def test_eval_by_the_evaluations_of_another_config(finished, tmp_path):
    run, results = finished
    lines = (
        'import dataclasses',
        'from tests.train import toy',
        'def others():',
        "    return dataclasses.replace(toy.experiment(), evals={'again': toy.experiment().evals['test']})",
    )
    (tmp_path / 'other_toy.py').write_text('\n'.join(lines))
    scores = evaluate(str(run), by=f'{tmp_path}/other_toy.py:others', trust=TRUST)
    assert scores == pytest.approx({name.replace('test/', 'again/'): value for name, value in results.items()})
    with pytest.raises(UserError, match='defines no function `other`'):
        evaluate(str(run), by=f'{tmp_path}/other_toy.py:other', trust=TRUST)


def test_predict_gives_the_evaluated_probabilities(finished, tmp_path):
    import PIL.Image

    run, _ = finished
    columns = np.load(run / 'predictions' / 'test.npz')
    example = toy.ToyReader.example(int(columns['index'][3]))
    image = tmp_path / 'image.png'
    PIL.Image.fromarray(example['image']).save(image)
    answer = predict(str(run), {'image': str(image), 'text': example['text']}, top=2, trust=TRUST)
    assert answer['answer'][0]['label'] == ('no', 'yes')[columns['predicted'][3]]
    assert answer['answer'][0]['probability'] == pytest.approx(columns['probability'][3], rel=1e-4)
    assert sum(a['probability'] for a in answer['answer']) == pytest.approx(1)
    high = predict(str(run), {'text': 'same'}, threshold=0.999, trust=TRUST)  # a modality left out
    assert high['above_threshold'] is False
    with pytest.raises(UserError, match="no such modality; did you mean 'image'"):
        predict(str(run), {'imag': 'x'}, trust=TRUST)
    with pytest.raises(UserError, match=r'manifest.json: No such file'):
        bare = tmp_path / 'bare'
        bare.mkdir()
        (bare / 'config.json').write_bytes((run / 'config.json').read_bytes())
        (bare / 'checkpoints').symlink_to(run / 'checkpoints')
        predict(str(bare), {'text': 'same'}, trust=TRUST)
    drawn = Data(toy.Toy(), (RandomCrop('image', size=8), toy.WORDS))
    write_json(bare / 'config.json', dump(toy.experiment(data=drawn)))
    with pytest.raises(UserError, match='--image: only random transforms of the config read it'):
        predict(str(bare), {'image': str(image), 'text': 'same'}, trust=TRUST)
    with pytest.raises(UserError, match='No such file'):
        predict(str(run), {'image': str(tmp_path / 'none.png')}, trust=TRUST)


def test_a_directory_of_another_config_is_refused(finished):
    run, _ = finished
    with pytest.raises(UserError, match='belongs to another config: batch_size was 16 and is 8'):
        train(toy.experiment(batch_size=8), workdir=str(run))


def test_a_directory_of_something_else_is_refused(tmp_path):
    (tmp_path / 'thesis.tex').write_text('x')
    with pytest.raises(UserError, match='holds no run'):
        train(toy.experiment(), workdir=str(tmp_path))
    with pytest.raises(UserError, match='--workdir'):
        train(toy.experiment(), workdir=str(tmp_path / 'thesis.tex'))


def test_bad_values_are_told_before_training(tmp_path):
    run = str(tmp_path / 'run')
    with pytest.raises(UserError, match='batch_size: 12 does not divide by 8'):
        train(toy.experiment(batch_size=12), workdir=run)
    with pytest.raises(UserError, match=r'need 3 devices .* there are 8'):
        train(toy.experiment(mesh=MeshShape(data=1, fsdp=3)), workdir=run)
    with pytest.raises(UserError, match="precision: unknown 'half'"):
        train(toy.experiment(precision='half'), workdir=run)
    assert not Path(run).exists()
    with pytest.raises(UserError, match=r'answer.classes is 3, but answer, .* has 2 classes'):
        train(toy.experiment(model=toy.model(classes=3)), workdir=run)
    with pytest.raises(UserError, match=r'optim.accumulate 0'):
        train(toy.experiment(optim=dataclasses.replace(toy.experiment().optim, accumulate=0)), workdir=run)
    assert not Path(run).exists()  # so the mended config may use it


def test_a_second_process_is_refused_and_a_lost_report_is_made_again(finished, tmp_path):
    import fcntl

    run, results = finished
    (run / 'report.html').unlink()
    with (run / 'lock').open('a') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match='another process trains in it'):
            train(toy.experiment(), workdir=str(run))
    assert train(toy.experiment(), workdir=str(run)) == results
    assert (run / 'report.html').exists()


def test_resuming_tells_what_changed_and_refuses_other_data(tmp_path):
    train(toy.experiment(steps=2), workdir=str(tmp_path))
    path = tmp_path / 'manifest.json'
    first = json.loads(path.read_text())
    path.write_text(json.dumps(first | {'python': '2.7', 'packages': {}}))
    train(toy.experiment(steps=4), workdir=str(tmp_path))
    (resumed,) = json.loads(path.read_text())['resumed']
    assert resumed.pop('config_hash') != first['config_hash']  # of the longer run
    assert resumed == {'packages': first['packages'], 'python': first['python'], 'config': [['steps', 2, 4]]}
    path.write_text(json.dumps(first | {'data': {'train': 'other', 'test': 'toy'}}))
    with pytest.raises(UserError, match=r'has changed since it began: data\.train was other and is toy'):
        train(toy.experiment(steps=6), workdir=str(tmp_path))
