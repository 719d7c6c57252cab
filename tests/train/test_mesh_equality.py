"""The same run on every mesh, for a few steps; `scripts/mesh_equality` asks for more of them, and a group."""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import pytest

from mmjax.config.swaps import snake_case
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.sharding.presets import FsdpTp, LongContext, Moe, Multislice
from mmjax.train import mesh_equality
from mmjax.train.check_parts import SMALL, captions, mixture
from mmjax.train.mesh_equality import MODELS, PRESETS, SAME, alone, apart, losses

FOUND = json.loads((Path(__file__).parents[2] / 'experiments/scale/mesh_equality.json').read_text())


def test_what_was_found_is_of_every_model_layout_and_preset():
    presets = {snake_case(type(shape).__name__) for shape in PRESETS}
    names = {f'{model}/{layout}/{preset}' for model in MODELS for layout in ('1x8', '2x4') for preset in presets}
    assert names == {name for name in FOUND if name.count('/') == 2}
    assert all(FOUND[name] <= SAME for name in names)
    assert all(FOUND[f'{model}/another_seed'] > 1000 * SAME for model in MODELS)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(mesh_equality, 'STEPS', 3)


@functools.cache
def whole():
    """The batch at once: in parts, as the script has it, takes twice as long to compile."""
    made = captions(SMALL)
    return dataclasses.replace(made, optim=dataclasses.replace(made.optim, accumulate=1))


@functools.cache
def reference():
    return alone(whole())


@pytest.mark.parametrize(
    'shape', [FsdpTp(), LongContext(), Moe(), Multislice()], ids=lambda shape: snake_case(type(shape).__name__)
)
def test_a_preset_has_the_losses_of_one_device(shape, few, record_property):
    """Of a text that is written and compared over the whole batch, with what is computed again."""
    difference = apart(losses(dataclasses.replace(whole(), mesh=shape)), reference())
    record_property('largest relative difference', difference)
    print(f'largest relative difference of a loss: {difference:.1e}')
    assert difference <= SAME


def test_a_mesh_that_cuts_everything_has_the_losses_of_one_device(few):
    """With a mixture of experts and dropout: batch, length, experts and parameters are cut."""
    of = mixture(SMALL)
    found = losses(dataclasses.replace(of, mesh=LongContext(sequence=2, expert=2, tensor=2)), jax.devices())
    difference = apart(found, wanted := alone(of))
    print(f'largest relative difference of a loss: {difference:.1e}')
    assert difference <= SAME
    assert apart([x * 1.1 for x in found], wanted) == pytest.approx(0.1, rel=1e-3)


def test_a_batch_in_parts_has_the_losses_of_the_whole(few):
    """Logits that are not computed yet share a matrix, of which there is one, however many parts there are."""
    made, block = captions(SMALL), Block(attention=Attention(heads=SMALL.heads))
    still = made.model.clone(
        encoders={name: encoder.clone(block=block) for name, encoder in made.model.encoders.items()},
        fusion=made.model.fusion.clone(block=block),
    )
    found = [
        alone(dataclasses.replace(made, model=still, optim=dataclasses.replace(made.optim, accumulate=parts)))
        for parts in (1, 2)
    ]
    assert apart(*found) <= SAME
