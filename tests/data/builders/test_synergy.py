"""The builder against the textbook values of information, and against bits read off its pixels and words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import chdtrc

from mmjax.data import Data, Image, Tfds, Words, eval_batches, open_data
from mmjax.data.builders import synergy
from mmjax.data.builders.synergy import CONFIGS, information, joint
from mmjax.encoders.image import ConvEncoder, PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.errors import UserError

FIELDS = {key: key for key in ('image', 'text', 'y', 'a_bits', 'b_bits')}
MEANS = {
    'small': 0, 'tiny': 0, 'big': 1, 'large': 1, 'red': 0, 'crimson': 0, 'blue': 1, 'navy': 1,
    'cat': 0, 'kitten': 0, 'dog': 1, 'puppy': 1, 'sleeps': 0, 'rests': 0, 'runs': 1, 'jumps': 1,
}  # fmt: skip
WORDS = Words(vocabulary=('the', *MEANS), length=5)

LABEL = {
    'xor': lambda a, b: str(a[0] ^ b[0]),
    'redundancy': lambda a, b: str(a[0]),
    'unique_a': lambda a, b: str(a[0]),
    'unique_b': lambda a, b: str(b[0]),
    'mixed': lambda a, b: f'{a[0]}{a[1]}{b[1]}{a[2] ^ b[2]}',
}
AGREE = {'redundancy', 'mixed'}  # where the first bits of image and text are the same

# The decomposition of each: redundancy, unique to a, unique to b, synergy, in bits.
ATOMS = {
    'xor': (0, 0, 0, 1),
    'redundancy': (1, 0, 0, 0),
    'unique_a': (0, 1, 0, 0),
    'unique_b': (0, 0, 1, 0),
    'mixed': (1, 1, 1, 1),
}


@pytest.fixture(scope='module', params=CONFIGS)
def prepared(request, tmp_path_factory):
    """Name of a config, and the rows of its splits as a model is given them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synergy, 'SIZES', {'train': 800, 'validation': 150, 'test': 150})
        patch.setenv('MMJAX_DATA', str(tmp_path_factory.mktemp('synergy')))
        splits = {}
        for name in synergy.SIZES:
            data = Data(Tfds(f'synergy/{request.param}', name, FIELDS), (Image(size=8, channels=1), WORDS))
            batches = list(eval_batches(data, batch_size=500))
            rows = {key: np.concatenate([batch[key] for batch in batches]) for key in (*FIELDS, 'weight')}
            splits[name] = {key: value[rows['weight'] > 0] for key, value in rows.items()}
            splits[name]['label'] = np.array(open_data(data).labels['y'])[splits[name]['y']]
        return request.param, splits


def read_image(image):
    """The bits of [8, 8, 1] pixels: whether each quadrant is lighter than middle grey, to the last pixel."""
    light = image[..., 0] > 128
    quadrants = [light[:4, :4], light[:4, 4:], light[4:, :4], light[4:, 4:]]
    assert all(quadrant.all() or not quadrant.any() for quadrant in quadrants)
    return [int(quadrant.all()) for quadrant in quadrants]


def read_text(ids):
    the, *words = WORDS.decode(ids).split()
    assert the == 'the'
    return [MEANS[word] for word in words]


def number(bits):
    return int(''.join(map(str, bits)), 2)


def test_bits_can_be_read_off_and_tell_the_label(prepared):
    config, splits = prepared
    assert {name: len(part['y']) for name, part in splits.items()} == {'train': 800, 'validation': 150, 'test': 150}
    for part in splits.values():
        for at in range(len(part['y'])):
            a, b = read_image(part['image'][at]), read_text(part['text'][at])
            assert (number(a), number(b)) == (part['a_bits'][at], part['b_bits'][at])
            assert part['label'][at] == LABEL[config](a, b)
            assert config not in AGREE or a[0] == b[0]


def test_frequencies_are_those_of_the_table(prepared):
    config, splits = prepared
    table = joint(config)
    rows = {key: np.concatenate([part[key] for part in splits.values()]) for key in ('a_bits', 'b_bits', 'y')}
    counts = np.zeros(table.shape)
    np.add.at(counts, (rows['a_bits'], rows['b_bits'], rows['y']), 1)
    assert counts[table == 0].sum() == 0
    for axes in ((), (0,), (1,), (0, 1)):
        expected, found = table.sum(axes) * len(rows['y']), counts.sum(axes)
        some = expected > 0
        distance = ((found - expected)[some] ** 2 / expected[some]).sum()
        assert chdtrc(some.sum() - 1, distance) > 1e-3  # Pearson's test


def test_noise_varies_what_does_not_matter(prepared):
    _, splits = prepared
    pictures = [image.tobytes() for part in splits.values() for image in part['image']]
    assert len(set(pictures)) == len(pictures)  # no split has a picture of another
    texts = {WORDS.decode(ids) for ids in splits['train']['text']}
    assert {word for text in texts for word in text.split()} == set(WORDS.vocabulary)
    pixels = splits['train']['image']
    assert pixels.min() == 1 and pixels.max() == 255


def test_encoders_read_both_modalities():
    rng = np.random.default_rng(0)
    image = jnp.asarray(np.stack([synergy.draw(a, rng) for a in range(4)]))
    text = jnp.stack([jnp.asarray(WORDS({'text': synergy.write(b, rng)})['text']) for b in range(4)])
    for encoder, x, tokens in (
        (PatchEncoder(width=16, patch=4), image, 4),
        (ConvEncoder(width=16, channels=(8,)), image, 16),
        (TokenEncoder(vocabulary=WORDS.size, width=16), text, 5),
    ):
        out, _ = jax.eval_shape(
            lambda x, e=encoder: e.init_with_output(jax.random.key(0), x, jnp.ones(4, bool), train=False), x
        )
        assert out.values.shape == (4, tokens, 16)


@pytest.mark.parametrize('config', CONFIGS)
def test_tables_are_the_rules(config):
    table = joint(config)
    assert table.sum() == pytest.approx(1) and set(np.unique(table)) == {0, table.max()}
    names = synergy.labels(config)
    bits = [[int(digit) for digit in format(value, '04b')] for value in range(16)]
    found = {(a, b, names[y]) for a, b, y in np.argwhere(table).tolist()}
    assert found == {
        (a, b, LABEL[config](bits[a], bits[b]))
        for a in range(16)
        for b in range(16)
        if config not in AGREE or bits[a][0] == bits[b][0]
    }


@pytest.mark.parametrize('config', CONFIGS)
def test_information_is_the_textbook_s(config):
    redundancy, unique_a, unique_b, synergistic = ATOMS[config]
    assert tuple(CONFIGS[config]) == ATOMS[config]
    assert information(joint(config)) == pytest.approx(
        (redundancy + unique_a, redundancy + unique_b, sum(ATOMS[config]), redundancy - synergistic), abs=1e-9
    )


@pytest.mark.parametrize('config', CONFIGS)
def test_the_parts_are_the_decomposition(config):
    """Liang et al. 2023: synergy is what I(ab;y) loses where only the marginals (a, y) and (b, y) are kept.

    The loss is greatest, among all such tables, for a and b independent given y: it leaves each bit that one modality
    tells, which the marginals fix, and nothing of an exclusive or.
    """
    table = joint(config)
    kept = np.einsum('ay,by,y->aby', table.sum(1), table.sum(0), 1 / table.sum((0, 1)))
    np.testing.assert_allclose(kept.sum(1), table.sum(1), atol=1e-12)
    np.testing.assert_allclose(kept.sum(0), table.sum(0), atol=1e-12)
    whole, alone = information(table), information(kept)
    unique_a, unique_b = alone.ab - alone.b, alone.ab - alone.a
    atoms = (whole.a - unique_a, unique_a, unique_b, whole.ab - alone.ab)
    assert atoms == pytest.approx(ATOMS[config], abs=1e-9)


@pytest.mark.parametrize(
    'config, accuracies',
    [
        ('xor', (1 / 2, 1 / 2, 1 / 2, 1)),
        ('redundancy', (1 / 2, 1, 1, 1)),
        ('unique_a', (1 / 2, 1, 1 / 2, 1)),
        ('unique_b', (1 / 2, 1 / 2, 1, 1)),
        ('mixed', (1 / 16, 1 / 4, 1 / 4, 1)),
    ],
)
def test_best_accuracies(config, accuracies):
    table = joint(config)
    best = [table.sum(axes).max(-1).sum() for axes in ((0, 1), 1, 0, ())]
    assert best == pytest.approx(accuracies)


def test_information_of_tables_by_hand():
    # y = a and b, of two fair bits: H(y) = 0.8113, I(a;y) = H(y) - H(y|a) = 0.8113 - 0.5.
    both = np.zeros((2, 2, 2))
    both[[0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 1]] = 1 / 4
    assert information(both) == pytest.approx((0.3113, 0.3113, 0.8113, -0.1887), abs=1e-4)
    # A noisy copy: y is a, but for one time in ten. Capacity of a binary symmetric channel.
    noisy = np.array([[[0.45, 0.05]], [[0.05, 0.45]]])
    assert information(noisy) == pytest.approx((0.5310, 0, 0.5310, 0), abs=1e-4)
    with pytest.raises(UserError, match=r'from 0\.25 on that add up to 2, not to 1'):
        information(np.full((2, 2, 2), 0.25))
    with pytest.raises(UserError, match=r'from -0\.5 on'):
        information(np.array([[[-0.5, 1.5]]]))


def test_an_unknown_config_is_told():
    with pytest.raises(UserError, match=r"no config 'xorr'; it has xor, .*did you mean 'xor'"):
        joint('xorr')


def test_two_preparations_have_equal_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(synergy, 'SIZES', {'train': 50, 'test': 50})
    seen = {}
    for home in ('one', 'other'):
        monkeypatch.setenv('MMJAX_DATA', str(tmp_path / home))
        for config in ('xor', 'unique_a'):
            for name in ('train', 'test'):
                reader = Tfds(f'synergy/{config}', name, FIELDS).open()
                seen[home, config, name] = [
                    {key: np.asarray(value).tolist() for key, value in row.items()} for row in reader.read(range(50))
                ]
    for config in ('xor', 'unique_a'):
        assert seen['one', config, 'train'] == seen['other', config, 'train'] != seen['one', config, 'test']
    assert seen['one', 'xor', 'train'] != seen['one', 'unique_a', 'train']


def test_sizes():
    assert synergy.SIZES == {'train': 10_000, 'validation': 2_000, 'test': 4_000}
