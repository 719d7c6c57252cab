"""Recall@k on cases worked by hand, and against sorting."""

import numpy as np
import pytest

from mmjax.errors import UserError
from mmjax.evals.retrieval import CaptionRetrieval, Retrieval


def scored(a, b, group=None, kind=Retrieval, **options):
    evaluator = kind(group='group' if group is not None else '', **options)
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


def test_each_image_once_by_hand():
    """Two images with two captions each. Image 0 has its second caption nearest, image 1 only its third best.

    Scores of the captions of image 0, 0, 1, 1: for image 0: 0.5 0.9 0.6 0.1, for image 1: 0.8 0.7 0.5 0.2. So the
    captions find their image first: the 2nd. The 1st, 3rd and 4th have the wrong one nearer, or not: 0.5 < 0.8 (no),
    0.6 > 0.5 (no), 0.1 < 0.2 (yes).
    """
    images, group = np.repeat(np.eye(2), 2, axis=0), [7, 7, 3, 3]
    captions = np.array([[0.5, 0.8], [0.9, 0.7], [0.6, 0.5], [0.1, 0.2]])
    found = scored(images, captions, group, CaptionRetrieval, ks=(1, 2, 3))
    assert [found[f'recall@{k}/image_to_text'] for k in (1, 2, 3)] == [0.5, 0.5, 1]
    assert [found[f'recall@{k}/text_to_image'] for k in (1, 2, 3)] == [0.5, 1, 1]
    assert found['chance@1/image_to_text'] == pytest.approx(2 / 4) == found['chance@1/text_to_image']
    assert found['chance@2/image_to_text'] == pytest.approx(1 - 2 / 4 * 1 / 3) and found['chance@2/text_to_image'] == 1
    # A gallery in which images stand as often as they have captions: an image that is nearer is so twice.
    harder = scored(images, captions, group, ks=(2,))
    assert harder['recall@2/text_to_image'] == 0.5


def test_each_image_once_against_sorting():
    """The loop of the published protocol: the best place of five captions; the place of the one image."""
    rng = np.random.default_rng(2)
    images, captions = rng.standard_normal((30, 6)), rng.standard_normal((150, 6))
    captions += 0.6 * np.repeat(images, 5, axis=0)
    to_text, to_image = [], []
    for i, image in enumerate(images):
        order = np.argsort(-(captions @ image))
        to_text.append(min(int(np.flatnonzero(order == 5 * i + j)[0]) for j in range(5)))
    for j, caption in enumerate(captions):
        to_image.append(int(np.flatnonzero(np.argsort(-(images @ caption)) == j // 5)[0]))
    shuffled = rng.permutation(150)
    group = np.repeat(rng.permutation(30), 5)
    found = scored(
        np.repeat(images, 5, axis=0)[shuffled], captions[shuffled], group[shuffled], CaptionRetrieval, ks=(1, 5)
    )
    for k in (1, 5):
        assert 0.05 < found[f'recall@{k}/image_to_text'] == pytest.approx(np.mean(np.array(to_text) < k))
        assert 0.05 < found[f'recall@{k}/text_to_image'] == pytest.approx(np.mean(np.array(to_image) < k))
        assert found[f'chance@{k}/text_to_image'] == pytest.approx(k / 30)


def test_captions_without_the_number_of_their_image():
    with pytest.raises(UserError, match=r'caption_retrieval.group: name the field'):
        scored(np.eye(2), np.eye(2), kind=CaptionRetrieval)


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
    with pytest.raises(UserError, match="no field of the batch 'base'"):
        Retrieval(group='base').predictions({'image': np.ones((2, 2)), 'text': np.ones((2, 2))}, {'bass': np.ones(2)})
