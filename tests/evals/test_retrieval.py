"""Recall@k on cases worked by hand, and against sorting."""

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.evals.retrieval import Retrieval


def scored(a, b, group=None, **options):
    evaluator = Retrieval(group='group' if group is not None else '', **options)
    batch = {} if group is None else {'group': np.asarray(group)}
    columns = evaluator.predictions({'image': np.asarray(a), 'text': np.asarray(b)}, batch)
    return evaluator.metrics(columns, {})


def test_worked_by_hand():
    """Image 0 finds its text first, image 1 second, image 2 last; and so does text 0, text 1, text 2 its image."""
    a, b = np.eye(3), np.array([[0.9, 0.1, 0.5], [0.2, 0.3, 0.8], [0.1, 0.6, 0.0]])
    found = scored(a, b, ks=(1, 2, 3))  # scores of image i and text j: b[j, i]
    assert found['recall@1/image_to_text'] == pytest.approx(1 / 3)
    assert found['recall@2/image_to_text'] == pytest.approx(2 / 3)
    assert found['recall@3/image_to_text'] == 1
    assert found['recall@1/text_to_image'] == pytest.approx(1 / 3)
    assert found['chance@1/text_to_image'] == pytest.approx(1 / 3) and found['chance@3/text_to_image'] == 1


def test_against_sorting_with_several_right_answers():
    rng = np.random.default_rng(0)
    a, b, group = rng.standard_normal((40, 5)), rng.standard_normal((40, 5)), rng.integers(0, 12, 40)
    found = scored(a, b, group, ks=(1, 5))
    for name, scores in (('image_to_text', a @ b.T), ('text_to_image', b @ a.T)):
        order = np.argsort(-scores, axis=1)
        for k in (1, 5):
            expected = np.mean([group[i] in group[order[i, :k]] for i in range(40)])
            assert found[f'recall@{k}/{name}'] == pytest.approx(expected)
    draws = [np.mean([group[i] in group[rng.permutation(40)[:5]] for i in range(40)]) for _ in range(2000)]
    assert found['chance@5/image_to_text'] == pytest.approx(np.mean(draws), abs=0.01)


def test_a_tie_is_no_luck():
    """Embeddings that are all the same know nothing: recall is 0 until the whole gallery is in sight."""
    found = scored(np.ones((4, 2)), np.ones((4, 2)), ks=(1, 3, 4))
    assert [found[f'recall@{k}/image_to_text'] for k in (1, 3, 4)] == [0, 0, 1]


def test_rows_without_a_modality_are_left_out():
    a, b = np.eye(3), np.eye(3)
    b[1] = 0
    found = scored(a, b, ks=(1,))
    assert found['recall@1/image_to_text'] == 1 and found['chance@1/image_to_text'] == 0.5


def test_a_model_that_diverged_finds_nothing():
    """And a split of which no row has both has nothing to find."""
    broken = scored(np.full((4, 2), np.nan), np.ones((4, 2)), ks=(1, 3))
    assert broken['recall@1/image_to_text'] == broken['recall@3/text_to_image'] == 0
    nothing = scored(np.zeros((4, 2)), np.ones((4, 2)), ks=(1,))
    assert nothing['recall@1/image_to_text'] == nothing['chance@1/image_to_text'] == 0


def test_names_that_are_not_there():
    with pytest.raises(UserError, match="no output of the model 'image'"):
        Retrieval().predictions({'imagine': np.ones((2, 2))}, {})
    with pytest.raises(UserError, match="no field of the data 'base'"):
        Retrieval(group='base').predictions({'image': np.ones((2, 2)), 'text': np.ones((2, 2))}, {'bass': np.ones(2)})
