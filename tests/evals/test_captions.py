"""Scores of texts: CIDEr-D in cases worked out by hand, chrF against the definition."""

import numpy as np
import pytest
from numpy import exp, log, sqrt

from mmjax.data import References
from mmjax.errors import UserError
from mmjax.evals.captions import Captions, chrf, cider_d, words

# Four examples: "dog" is in the references of two, "a" in those of all.
REFERENCES = [['a red dog runs'], ['a dog'], ['a cat', 'a grey cat'], ['a fish']]


def test_words_of_scripts_without_spaces_are_characters():
    assert words('Ein Hund, zwei!') == ['ein', 'hund', 'zwei']
    assert words('赤い犬 dog2') == ['赤', 'い', '犬', 'dog2']


def test_an_exact_text_of_four_words_is_worth_ten():
    np.testing.assert_allclose(cider_d(['A red dog runs.', '', '', ''], REFERENCES), [10, 0, 0, 0])


def test_short_texts_have_no_long_runs():
    """'a dog' twice: one word counts ('a' weighs log 4/4 = 0), one run of two; none of three and four."""
    np.testing.assert_allclose(cider_d(['', 'a dog', '', ''], REFERENCES)[1], 10 * (1 + 1) / 4)


def test_weights_of_words():
    """'a dog' for 'a red dog runs': one word: dog (log 2) of red (log 4), dog (log 2), runs (log 4); two: no run in
    common. Two words less.
    """
    weight = log(2) * log(2) / (log(2) * sqrt(log(4) ** 2 + log(2) ** 2 + log(4) ** 2))
    np.testing.assert_allclose(cider_d(['a dog', '', '', ''], REFERENCES)[0], 10 * exp(-4 / 72) * weight / 4)


def test_what_is_said_twice_counts_once():
    """'dog dog' for 'a dog': counts are clipped at those of the reference, the length of the vector is not. As long."""
    found = cider_d(['', 'dog dog', '', ''], REFERENCES)[1]
    weight = log(2) * log(2) / (2 * log(2) * log(2))
    np.testing.assert_allclose(found, 10 * weight / 4)


def test_the_mean_over_references():
    """'a cat' is one of two; of 'a grey cat', a word longer, it has cat (log 4) of grey, cat; no run of two."""
    one, other = (1 + 1) / 4, exp(-1 / 72) * (log(4) / sqrt(2 * log(4) ** 2)) / 4
    np.testing.assert_allclose(cider_d(['', '', 'a cat', ''], REFERENCES)[2], 10 * (one + other) / 2)


def test_chrf_by_its_definition():
    """Mean over n of precision and recall of character n-grams without spaces, recall weighing beta = 2."""
    text, reference = 'red dog', 'red dogs'

    def grams(x, n):
        x = x.replace(' ', '')
        return [x[i : i + n] for i in range(len(x) - n + 1)]

    precision, recall = [], []
    for n in range(1, 7):
        a, b = grams(text, n), grams(reference, n)
        both = sum(min(a.count(g), b.count(g)) for g in set(a))
        precision.append(both / len(a))
        recall.append(both / len(b))
    p, r = np.mean(precision), np.mean(recall)
    np.testing.assert_allclose(chrf([text], [[reference]]), 100 * 5 * p * r / (4 * p + r), rtol=1e-6)
    assert chrf(['x', 'a cat'], [['x'], ['a cat', 'cats']]) == pytest.approx(100)


def columns(texts, references):
    stored = np.stack([References(most=2)({'references': x})['references'] for x in references])
    return Captions().predictions({'text': np.array(texts)}, {'references': stored})


def test_metrics_of_a_split():
    found = Captions().metrics(
        columns(['a dog', 'ein Hündchen', 'a fish', 'x'], [['a dog'], ['ein Hund'], ['fish', 'a fish'], None]), {}
    )
    assert found['exact_match'] == pytest.approx(2 / 3)  # the last one has nothing to be compared with
    texts, references = ['a dog', 'ein Hündchen', 'a fish'], [['a dog'], ['ein Hund'], ['fish', 'a fish']]
    assert found['chrf'] == chrf(texts, references) and found['cider_d'] == cider_d(texts, references).mean()


def test_intervals_cover_what_more_of_the_same_gives():
    """Of 60 texts drawn from many: against the score of all of them."""
    rng, letters = np.random.default_rng(0), np.array(list('abcd '))

    def text():
        return ''.join(rng.choice(letters, 12))

    told = [text() for _ in range(3000)]
    written = [x if rng.random() < 0.2 else ' '.join([*x.split()[:1], text()]) for x in told]
    whole = Captions().metrics(columns(written, [[x] for x in told]), {})
    covered = []
    for _ in range(60):
        some = rng.choice(3000, 60, replace=False)
        given = columns([written[i] for i in some], [[told[i]] for i in some])
        found = Captions().metrics(given, {})
        assert len(covered) > 2 or found == Captions().metrics(given, {})  # the same draws each time
        names = ('exact_match', 'chrf')  # runs of words are rarer among more texts, so that CIDEr-D is another there
        covered.append([found[f'{name}_low'] <= whole[name] <= found[f'{name}_high'] for name in names])
        assert found['cider_d_low'] < found['cider_d'] < found['cider_d_high']
    assert (np.mean(covered, axis=0) > 0.85).all()
    assert Captions().metrics(columns(['a'], [None]), {})['chrf_high'] == 100


def test_what_is_missing_is_named():
    with pytest.raises(UserError, match="no output of the model 'text'; did you mean 'texts'"):
        Captions().predictions({'texts': np.array(['a'])}, {})
    with pytest.raises(UserError, match="no field of the batch 'references'"):
        Captions().predictions({'text': np.array(['a'])}, {'answer': np.zeros(1)})
    with pytest.raises(UserError, match='is int32, no text; give the evaluation a predictor that writes one'):
        Captions().predictions({'text': np.zeros((1, 3), np.int32)}, {'references': np.zeros((1, 1, 4), np.uint8)})
