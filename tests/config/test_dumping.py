"""A config as JSON and back: exact round trips, hashes, differences, and what a damaged dump is told."""

import dataclasses
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmjax import config
from mmjax.config import dumping
from mmjax.errors import UserError
from tests import parts
from tests.parts import HERE, Crop, FewTokens, Grown, Holder, Net, Plain, Settings, reload


def test_round_trip_is_equal_and_keeps_types():
    settings = Settings(net=Net(FewTokens(3)), betas=(0.1, 1e-300), lr=0.1 + 0.2, crop=Crop(7))
    loaded = reload(settings)
    assert loaded == settings
    assert type(loaded.betas) is tuple and type(loaded.net.towers) is dict
    assert loaded.lr.hex() == settings.lr.hex()


def test_dump_writes_defaults_and_class_paths_and_not_linens_own_fields():
    dumped = config.dump(Settings())
    assert dumped['schema'] == 1
    assert dumped['class'] == f'{parts.__name__}.Settings'
    assert dumped['net']['mixer'] == {'class': f'{parts.__name__}.Plain', 'width': 8, 'rate': 0.5}
    assert dumped['transforms'][1] == {'class': f'{parts.__name__}.Flip', 'probability': 0.5}


def test_a_loaded_module_initialises_to_the_same_parameters():
    x = jnp.ones((1, 4))
    before, after = (module.init(jax.random.key(0), x) for module in (Plain(width=5), reload(Plain(width=5))))
    assert jax.tree.all(jax.tree.map(jnp.array_equal, before, after))


leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
keys = st.text().filter(lambda key: key != 'class')
values = st.recursive(leaves, lambda v: st.lists(v).map(tuple) | st.dictionaries(keys, v), max_leaves=20)


@given(values)
def test_any_plain_value_survives_json(value):
    loaded = reload(Holder(value)).value
    assert loaded == value
    assert repr(loaded) == repr(value)  # 1 is not 1.0, -0.0 is not 0.0


@pytest.mark.parametrize(
    ('value', 'told'),
    [
        ([1], 'value: a list has no exact form in JSON; use a tuple'),
        ({1: 2}, "value: 1 can't be a key"),
        ({'class': 2}, "value: 'class' can't be a key"),
        ((1, {'a': jnp.ones(2)}), 'value.1.a: a ArrayImpl has no exact form'),
        (Plain(name='fixed'), "value: leave out name='fixed'"),
        (dataclasses.make_dataclass('Lost', [])(), 'define Lost'),
    ],
)
def test_what_json_cannot_say_is_refused(value, told):
    with pytest.raises(UserError, match=re.escape(told)):
        config.dump(Holder(value))


def test_an_instance_in_two_places_is_loaded_as_two():
    tower = Plain()
    towers = reload(Net(Plain(), towers={'image': tower, 'text': tower})).towers
    assert towers['image'] == towers['text'] and towers['image'] is not towers['text']


def test_classes_are_imported_only_from_trusted_packages():
    dumped = config.dump(Settings())
    with pytest.raises(UserError, match=f'add --trust {HERE}'):
        config.load(dumped)
    with pytest.raises(UserError, match=r'os\.system is not imported'):
        config.load({'schema': 1, 'class': 'os.system'})
    with pytest.raises(UserError, match=r"mmjax\.errors has no dataclass 'nearest'"):
        config.load({'schema': 1, 'class': 'mmjax.errors.nearest'})


def change(**changes: Any) -> dict[str, Any]:
    dumped = config.dump(Settings())
    dumped['net']['mixer'] |= changes
    return dumped


@pytest.mark.parametrize(
    ('dumped', 'told'),
    [
        (change(widht=3), "net.mixer.widht: .*Plain has no such field; did you mean 'width'"),
        (
            change(**{'class': f'{parts.__name__}.Plian'}),
            "net.mixer: .* has no dataclass 'Plian'; did you mean 'Plain'",
        ),
        (change(**{'class': f'{HERE}.gone.Plain'}), "net.mixer: can't import .*gone.Plain"),
        (change(**{'class': f'{parts.__name__}.FewTokens'}), 'net.mixer.rate: .*FewTokens has no such field'),
        ({'schema': 1, 'class': f'{parts.__name__}.Crop'}, 'size: is not in the config, and .*Crop needs it'),
        ({'schema': 2, 'class': f'{parts.__name__}.Crop', 'size': 3}, 'schema 2: this version reads 1 to 1'),
        ({'class': f'{parts.__name__}.Crop', 'size': 3}, 'schema None'),
    ],
)
def test_a_dump_that_cannot_be_mapped_names_the_place_and_the_commit(dumped, told):
    with pytest.raises(UserError, match=rf'{told}.*written by commit c0ffee'):
        config.load(dumped | {'commit': 'c0ffee'}, trust=(HERE,))


def test_an_added_field_has_the_value_of_old_runs_and_leaves_their_hash_alone():
    old = {'schema': 1, 'class': f'{parts.__name__}.Grown', 'width': 3}
    assert config.load(old, trust=(HERE,)) == Grown(width=3, depth=6)
    hashes = [config.config_hash(grown) for grown in (Grown(depth=6), Grown(depth=12))]
    assert hashes[0] != hashes[1]

    today = dataclasses.make_dataclass('Grown', [('width', int, 3)], frozen=True)  # the class as it was
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, 'Grown', today)
        today.__module__ = parts.__name__
        assert config.config_hash(today()) == hashes[0]


def test_upgrades_run_in_order_and_only_on_older_dumps(monkeypatch):
    def rename(dumped):
        return {{'w': 'wide'}.get(key, key): value for key, value in dumped.items()}

    def rename_again(dumped):
        return {{'wide': 'size'}.get(key, key): value for key, value in dumped.items()}

    monkeypatch.setattr(dumping, 'UPGRADES', ((2, rename), (3, rename_again)))
    path = f'{parts.__name__}.Crop'
    assert config.dump(Crop())['schema'] == 3
    for dumped in ({'schema': 1, 'w': 5}, {'schema': 2, 'wide': 5}, {'schema': 3, 'size': 5}):
        assert config.load(dumped | {'class': path}, trust=(HERE,)) == Crop(5)


def test_nan_and_infinity_survive_too():
    assert reload(Holder(math.inf)).value == math.inf
    assert math.isnan(reload(Holder(math.nan)).value)


def test_hash_is_that_of_the_meaning():
    assert re.fullmatch('[0-9a-f]{64}', config.config_hash(Settings()))
    assert config.config_hash(Settings()) == config.config_hash(reload(Settings()))
    assert config.config_hash(Settings(lr=1.0)) == config.config_hash(Settings(lr=1))
    assert config.config_hash(Settings()) != config.config_hash(Settings(seed=1))
    towers = {'image': Plain(), 'text': Plain()}
    a, b = (Net(Plain(), towers=dict(items)) for items in (towers.items(), reversed(towers.items())))
    assert config.config_hash(a) != config.config_hash(b)  # a module that iterates over its dict sees the order


def test_hash_of_configs_that_share_parts_reads_each_once():
    parts, plain = {}, Plain()
    nets = [Net(plain), Net(plain, towers={'image': plain}), Net(Plain())]
    assert [config.config_hash(net, parts=parts) for net in nets] == [config.config_hash(net) for net in nets]
    kept = dict(parts)
    config.config_hash(Net(plain), parts=parts)
    assert parts[id(plain)] is kept[id(plain)]


def test_diff_lists_what_differs_and_a_swapped_class_once():
    a = config.dump(Settings())
    b = config.dump(Settings(net=Net(FewTokens(2), towers={'image': Plain(width=4)}), steps=7, betas=(0.9, 0.9)))
    assert config.diff(a, a) == []
    assert config.diff(a, b) == [
        ('net.mixer', 'Plain(width=8, rate=0.5)', 'FewTokens(num_tokens=2, width=16, inner=Plain)'),
        ('net.towers.image.width', 8, 4),
        ('net.towers.text', 'Plain(width=9, rate=0.5)', '(absent)'),
        ('steps', 100, 7),
        ('betas', [0.9, 0.99], [0.9, 0.9]),
    ]
