"""The builder of emoji: what is in it, what is apart, what a model gets."""

import collections

import numpy as np
import pytest

from configs import clip_emoji
from mmjax.data import Data, Image, Item, Tfds, open_data
from mmjax.data.builders import emoji


@pytest.fixture(scope='module')
def rows():
    return emoji.entries()


def test_what_is_in_it(rows):
    """Counts that the builder's description gives; a few names, by hand."""
    assert len(rows) == 1914 == len({row.emoji for row in rows})
    assert sum(row.flag for row in rows) == 262
    assert len({row.base for row in rows}) == 1731 and max(collections.Counter(row.base for row in rows).values()) == 3
    assert all(len(row.names) == 14 and all(row.names) for row in rows)
    names = {row.emoji: dict(zip(emoji.LANGUAGES, row.names, strict=True)) for row in rows}
    assert names['😀']['en'] == 'grinning face'
    assert (names['🐘']['de'], names['🍎']['fr']) == ('elefant', 'pomme rouge')
    assert not any(0x1F3FB <= ord(c) < 0x1F400 for row in rows for c in row.emoji)


def test_variants_of_a_person_have_one_base_and_others_their_own(rows):
    base, kin = ({row.emoji: getattr(row, name) for row in rows} for name in ('base', 'kin'))
    assert base['👨‍🍳'] == base['👩‍🍳'] == base['🧑‍🍳'] != base['🧑‍🚒']
    assert base['🤷'] == base['🤷‍♀️'] == base['🤷‍♂️']
    assert base['🧑‍🍳'] != base['🍳'] and kin['🧑‍🍳'] == kin['🍳'] != kin['🧑‍🚒'] == kin['🚒']
    assert len({base[e] for e in ('🐶', '🐱', '🍎', '🍏', '♀️', '♂️', '🧑')}) == 7
    assert all(len({row.kin for row in rows if row.base == one}) == 1 for one in list(base.values())[::50])


def test_no_kin_is_in_two_splits(rows):
    tenths = emoji.place_of_kins(rows)
    assert set(tenths) == {row.kin for row in rows} and set(tenths.values()) == set(range(10))
    assert sorted(t for tenths in emoji.TENTHS.values() for t in tenths) == list(range(10))
    counts = collections.Counter(tenths.values())
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_drawing_is_one_of_its_own(rows):
    """Of a sample: 64x64, on white, not empty, no two alike."""
    drawn = [emoji.draw(row.emoji) for row in rows[::40]]
    assert all(x.shape == (64, 64, 3) and x.dtype == np.uint8 and (x[0, 0] == 255).all() for x in drawn)
    assert all((x != 255).any() for x in drawn) and len({x.tobytes() for x in drawn}) == len(drawn)


def test_prepared_rows_are_those_of_the_set(rows, monkeypatch, tmp_path):
    monkeypatch.setattr(emoji, 'entries', lambda: rows[::7])
    monkeypatch.setenv('MMJAX_DATA', str(tmp_path))
    found = {}
    for split in ('train', 'validation', 'test', 'train_flags'):
        fields = {'image': 'image', 'text': 'names', 'emoji': 'emoji', 'base': 'base'}
        reader = open_data(Data(Tfds('emoji', split, fields), (Image('image', size=32), Item('text', 2)))).reader
        for example in reader.read(range(len(reader))):
            found[example['emoji']] = split, example
    kept = {row.emoji: row for row in rows[::7]}
    assert set(found) <= set(kept) and len(found) >= 0.9 * len(kept)
    for name, (split, example) in found.items():
        row = kept[name]
        assert example['text'] == row.names[2] and example['base'] == row.base
        assert row.flag == split.endswith('_flags') and example['image'].shape == (32, 32, 3)


def test_the_nearest_seen_name_finds_what_the_recipe_says(rows):
    """Without training: the seen drawing with the nearest pixels, and the unseen names by their likeness to its name.

    By the cosine of counts of one to three characters, weighted by their rarity among seen names.
    """
    places = emoji.place_of_kins(rows)
    seen = [row for row in rows if places[row.kin] in emoji.TENTHS['train']]
    unseen = [row for row in rows if places[row.kin] in emoji.TENTHS['test'] and not row.flag]
    pixels = np.stack([emoji.draw(row.emoji) for row in (*unseen, *seen)]).reshape(len(unseen) + len(seen), -1)
    nearest = correlation(pixels[: len(unseen)], pixels[len(unseen) :]).argmax(axis=1)
    base = np.array([row.base for row in unseen])
    right = base[:, None] == base[None, :]
    found = {}
    for language in clip_emoji.NEAREST:
        place = emoji.LANGUAGES.index(language)
        of_seen, of_unseen = weighted_grams([row.names[place] for row in seen], [row.names[place] for row in unseen])
        scores = of_seen[nearest] @ of_unseen.T
        best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
        found[language] = (((scores >= best) & ~right).sum(axis=1) < 10).mean()
    assert found == pytest.approx(clip_emoji.NEAREST, abs=5e-4)


def correlation(a, b):
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a.astype(np.float32), b.astype(np.float32)))
    return unit(a) @ unit(b).T


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def weighted_grams(seen, unseen):
    def grams(name):
        name = f' {name} '
        return collections.Counter(name[i : i + k] for k in (1, 2, 3) for i in range(len(name) - k + 1))

    counts = [[grams(name) for name in names] for names in (seen, unseen)]
    place = {gram: i for i, gram in enumerate(sorted({g for rows in counts for row in rows for g in row}))}
    tables = [np.zeros((len(rows), len(place))) for rows in counts]
    for table, rows in zip(tables, counts, strict=True):
        for i, row in enumerate(rows):
            table[i, [place[g] for g in row]] = list(row.values())
    rarity = np.log((1 + len(seen)) / (1 + (tables[0] > 0).sum(axis=0))) + 1
    return [unit(table * rarity) for table in tables]
