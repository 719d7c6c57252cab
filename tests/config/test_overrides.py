"""Swaps and flags, `--help`, and what a mistake is told."""

import re
import sys
from typing import Any

import pytest

from mmjax import config
from mmjax.errors import UserError
from tests.parts import Crop, FewTokens, Flip, Holder, Net, Picky, Plain, Settings


def override(*args: str) -> Settings:
    return config.override(Settings(), args)


@pytest.mark.parametrize(
    ('args', 'path', 'value'),
    [
        (['--steps', '200'], 'steps', 200),
        (['steps=200'], 'steps', 200),
        (['--steps=200'], 'steps', 200),
        (['--lr', '1e-5'], 'lr', 1e-5),
        (['--ema', '0.5'], 'ema', 0.5),
        (['ema=None'], 'ema', None),
        (['--verbose'], 'verbose', True),
        (['verbose=true'], 'verbose', True),
        (['verbose=True', 'verbose=false'], 'verbose', False),
        (['--name', 'lr=3'], 'name', 'lr=3'),
        (['--kind', 'b'], 'kind', 'b'),
        (['--betas', '0.1', '0.2'], 'betas', (0.1, 0.2)),
        (['--net.mixer.width', '4'], 'net.mixer.width', 4),
        (['--net.towers.text.width', '4'], 'net.towers.text.width', 4),
        (['--transforms.0.size', '4'], 'transforms.0.size', 4),
        (['--scores.top-1', '0.1'], 'scores.top_1', 0.1),
        (['--scores.top_1', '0.1'], 'scores.top_1', 0.1),
        (['scores.top-1=0.1'], 'scores.top_1', 0.1),
        (['crop=crop', '--crop.size', '8'], 'crop', Crop(8)),
        (['net.mixer=few-tokens', '--net.mixer.num-tokens', '8'], 'net.mixer.num_tokens', 8),
        (['--net.mixer.num_tokens=8', 'net.mixer=FewTokens'], 'net.mixer.num_tokens', 8),
        (['net.mixer=fewtokens', 'net.mixer.num_tokens=8'], 'net.mixer.num_tokens', 8),
        (['transforms.0=flip'], 'transforms.0', Flip()),
        (['net.towers.image=mmjax_tests_own:Own'], 'net.towers.image.width', 8),
    ],
)
def test_override_changes_one_place(args, path, value, monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmjax_tests_own', own_module())
    changed: Any = override(*args)
    for part in path.split('.'):
        if isinstance(changed, dict | tuple):
            changed = changed[part if isinstance(changed, dict) else int(part)]
        else:
            changed = getattr(changed, part)
    assert changed == value and type(changed) is type(value)


def own_module():
    module = type(sys)('mmjax_tests_own')
    module.Own = type('Own', (Plain,), {'__module__': 'mmjax_tests_own'})
    return module


def test_no_arguments_change_nothing():
    assert override() == Settings()


def test_a_swap_takes_over_the_fields_that_both_have_and_leaves_the_original_alone():
    settings = Settings(net=Net(Plain(width=77, rate=0.1)))
    swapped = config.override(settings, ['net.mixer=few_tokens', '--net.mixer.num-tokens', '8'])
    assert swapped.net == Net(FewTokens(num_tokens=8, width=77))
    assert settings.net == Net(Plain(width=77, rate=0.1))


def test_swapped_in_defaults_are_instances_of_their_own():
    swaps = [override('net.mixer=few_tokens', 'net.mixer.num_tokens=1').net.mixer.inner for _ in range(2)]
    assert swaps[0] is not swaps[1]


@pytest.mark.parametrize(
    ('args', 'told'),
    [
        (['--stpes', '3'], "no flag --stpes; did you mean '--steps'?"),
        (['--width', '3'], "no flag --width; did you mean '--net.mixer.width'?"),
        (['--workdri', 'd'], "no flag --workdri; did you mean '--workdir'?"),
        (['--net.mixer', 'plain'], '--net.mixer is a part, not a flag; write net.mixer=NAME to swap it'),
        (['--beta', '1', '2'], "no flag --beta; did you mean '--betas'?"),
        (['--no-verbos'], "no flag --no-verbos; did you mean '--no-verbose'?"),
        (['stpes=3'], "stpes: no 'stpes' in the config; did you mean 'steps'?"),
        (['mixer=plain'], "no 'mixer' in the config; did you mean 'net.mixer'?"),
        (['net.towers.imag.width=3'], "no 'imag' in net.towers; did you mean 'image'?"),
        (['steps.x=3'], "steps.x: steps is 100, and has no 'x'"),
        (['--steps', 'abc'], "--steps: invalid literal for int() with base 10: 'abc'; it takes INT"),
        (['steps=abc'], '--steps'),
        (['--kind', 'c'], "'c' for argument '--kind'. Expected one of ('a', 'b')"),
        (['--steps'], "Missing value for argument '--steps'"),
        (['--steps', '3', '4'], "'4' is neither path=name nor the value of a flag"),
        (['net.mixer=few_tokns'], "net.mixer: no 'few_tokns'; did you mean 'few_tokens'? (there are few_tokens, plain"),
        (['net.mixer=hidden'], "net.mixer: no 'hidden'"),
        (['net.mixer=mixer'], "net.mixer: no 'mixer'"),
        (['net.mixer=nowhere.at_all:X'], "net.mixer: can't import nowhere.at_all:X: no module 'nowhere'"),
        (['net.mixer=..a:X'], "net.mixer: '..a:X' is no class path"),
        (['net.mixer=:X'], "net.mixer: ':X' is no class path"),
        ([f'net.mixer={__name__}:Crop'], 'is not a Mixer'),
        (['net.towers=plain'], 'net.towers holds image, text; write net.towers.NAME=…'),
        (['net.mixer=few_tokens'], 'net.mixer.num_tokens has no default'),
        (['net.mixer=few_tokens'], 'add --net.mixer.num-tokens VALUE'),
        (['net.mixer=few_tokens', '--net.mixer.num-tokns', '3'], "did you mean '--net.mixer.num-tokens'?"),
    ],
)
def test_a_mistake_is_told_in_one_line_with_the_nearest_right_name(args, told):
    with pytest.raises(UserError) as caught:
        config.override(Settings(), args, known_flags=('--workdir',))
    message = str(caught.value)
    assert told in message
    assert '\n' not in message and '\x1b' not in message and '│' not in message


def test_a_value_that_the_class_refuses_is_told_with_its_path():
    with pytest.raises(UserError, match='value: even numbers only'):
        config.override(Holder(Picky()), ['--value.number', '3'])


def test_help_is_that_of_the_swapped_config(capsys):
    with pytest.raises(SystemExit) as stop:
        override('net.mixer=few_tokens', '--help')
    assert not stop.value.code
    said = ' '.join(re.sub('[│─╭╮╰╯]', ' ', capsys.readouterr().out).split())
    assert '--net.mixer.num-tokens INT (required)' in said
    assert '--steps INT how many updates. (default: 100)' in said  # from the docstring of its class
    assert '--lr FLOAT peak of the schedule (default: 0.001)' in said  # from its comment
    assert '--net.towers.image.width INT of a token. (default: 8)' in said
    assert 'FewTokens. Mixes through a few. Instead: plain' in said
    assert 'parent' not in said and '--net.name' not in said
