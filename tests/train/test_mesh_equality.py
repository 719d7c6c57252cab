"""What `scripts/mesh_equality` found, and that it can find what is wrong. The whole of it takes minutes: no test."""

import dataclasses
import json
from pathlib import Path

import jax
import pytest

from mmjax.sharding.presets import LongContext
from mmjax.train import mesh_equality
from mmjax.train.check_parts import SMALL, mixture
from mmjax.train.mesh_equality import PRESETS, SAME, alone, apart, losses

FOUND = json.loads((Path(__file__).parents[2] / 'experiments/scale/mesh_equality.json').read_text())


def test_what_was_found_is_of_every_preset_and_layout():
    names = {name for name in FOUND if '/' in name}
    assert len(names) == 2 * len(PRESETS) and {name.partition('/')[0] for name in names} == {'1x8', '2x4'}
    assert all(FOUND[name] <= SAME for name in names) and FOUND['another_seed'] > 1000 * SAME


def test_a_mesh_that_cuts_everything_has_the_losses_of_one_device(monkeypatch):
    """With a mixture of experts and dropout: batch, length, experts and parameters are cut."""
    monkeypatch.setattr(mesh_equality, 'STEPS', 3)
    of = mixture(SMALL)
    on = LongContext(sequence=2, expert=2, tensor=2)
    reference = alone(of)
    found = losses(dataclasses.replace(of, mesh=on), jax.devices())
    difference = apart(found, reference)
    print(f'largest relative difference of a loss: {difference:.1e}')
    assert difference <= SAME
    assert apart([x * 1.1 for x in found], reference) == pytest.approx(0.1, rel=1e-3)
