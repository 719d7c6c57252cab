"""What `scripts/check_accelerator` concludes; the whole of it takes minutes and is no test."""

import json

import jax
import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.nn.attention import Attention
from mmjax.train import check_accelerator, mesh_equality
from mmjax.train.check_accelerator import FLOAT32, attention_apart, check_meshes, first_batch, main
from mmjax.train.check_parts import SMALL, experiment, tokens
from mmjax.train.mesh_equality import SAME


def test_meshes_that_agree_pass_and_others_are_named(monkeypatch):
    """Each distinct mesh of eight devices is asked once, against one device."""
    asked = []

    def losses(of, devices=None, wrong=()):
        asked.append((type(of.mesh).__name__, len(devices or jax.devices())))
        return [2.0, 1.0 + 2 * SAME * (type(of.mesh).__name__ in wrong)]

    monkeypatch.setattr(mesh_equality, 'losses', losses)
    found = check_meshes()
    assert found['mesh/passed'] is True and found['mesh/fsdp_tp'] == 0
    assert asked[0] == ('Dp', 1) and ('FsdpTp', 8) in asked and ('LongContext', 8) in asked
    monkeypatch.setattr(mesh_equality, 'losses', lambda of, devices=None: losses(of, devices, wrong=['Moe']))
    found = check_meshes()
    assert found['mesh/passed'] is False and found['mesh/moe'] == pytest.approx(2 * SAME)
    assert 'moe' in found['mesh/told']


def test_a_mesh_that_does_not_fit_is_left_out(monkeypatch):
    def losses(of, devices=None):
        if type(of.mesh).__name__ == 'Fsdp':
            raise UserError('too few')
        return [1.0]

    monkeypatch.setattr(mesh_equality, 'losses', losses)
    found = check_meshes()
    assert found['mesh/fsdp'] == 'left out: too few' and found['mesh/passed'] is True
    assert found['mesh/told'].endswith('not checked: fsdp')


def test_attention_is_held_against_the_plain_formula(monkeypatch):
    assert attention_apart('float32') < FLOAT32 / 10
    monkeypatch.setattr('mmjax.nn.attention.jax.nn.dot_product_attention', lambda q, k, v, **kwargs: 0.99 * v)
    assert attention_apart('float32') > FLOAT32


def test_what_is_drawn_holds_every_kind_of_row():
    mask = np.asarray(tokens().mask)
    assert mask.sum(axis=1).tolist() == [1024, 682, 341, 0]
    batch = first_batch(experiment(SMALL))
    assert batch['image'].shape == (32, 16, 16, 3) and set(batch['answer'].tolist()) == {0, 1, 2, 3}
    assert Attention(heads=SMALL.heads).heads_of('query', SMALL.width)[1] >= 8


def test_verdicts_and_exit_codes(monkeypatch, tmp_path, capsys):
    def check(name, passed):
        return lambda *_: {f'{name}/told': f'told of {name}', f'{name}/passed': passed, f'{name}/x': 0.5}

    for name in ('meshes', 'precision', 'resume', 'speed'):
        monkeypatch.setattr(check_accelerator, f'check_{name}', check(name.removesuffix('es'), True))
    file = tmp_path / 'found.json'
    assert main(['--json', str(file)]) == 0
    found = json.loads(file.read_text())
    assert found['passed'] is True and found['mesh/x'] == 0.5 and found['devices'] == len(jax.devices())
    assert all(not isinstance(value, dict | list) for value in found.values())
    monkeypatch.setattr(check_accelerator, 'check_resume', check('resume', False))
    capsys.readouterr()
    assert main([]) == 1
    assert 'resume     FAIL  told of resume' in capsys.readouterr().out
    assert main(['--jsn', 'x']) == 2
    assert main(['--json', str(tmp_path)]) == 2
