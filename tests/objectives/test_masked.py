"""Losses of masked tokens and patches against loops over them."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from mmjax.errors import UserError
from mmjax.objectives.masked import MaskedNormalisedPixels, MaskedPixels, MaskedTokens

RNG = np.random.default_rng(0)


def on_device(fields):
    return {name: jnp.asarray(x) for name, x in fields.items()}


def averaged(objective, outputs, batch):
    outputs, batch = on_device(outputs), on_device(batch)
    weights = objective.weights(batch)
    return float((objective(outputs, batch) * weights).sum() / weights.sum())


def test_tokens_are_averaged_over_tokens_not_rows():
    logits, target = RNG.standard_normal((3, 4, 7)), RNG.integers(0, 7, (3, 4))
    masked = np.array([[1, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]], bool)
    batch = {'text/target': target, 'text/masked': masked, 'weight': np.array([1.0, 1, 0])}
    logs = log_softmax(logits, axis=-1)
    expected = [-logs[b, n, target[b, n]] for b in range(2) for n in range(4) if masked[b, n]]
    assert averaged(MaskedTokens(), {'text': logits}, batch) == pytest.approx(np.mean(expected), rel=1e-5)
    batch['text/masked'] = np.zeros_like(masked)
    assert not MaskedTokens()({'text': jnp.asarray(logits)}, on_device(batch)).any()


def pixels():
    image = RNG.integers(0, 256, (3, 4, 6, 2), dtype=np.uint8)
    image[0, :2, :2] = 7  # of one colour
    masked = np.array([[1, 0, 1, 0, 0, 1], [0, 0, 0, 0, 0, 1], [0] * 6], bool)
    batch = {'image/target': image, 'image/masked': masked, 'weight': np.ones(3)}
    patches = {
        (b, n): image[b, 2 * (n // 3) : 2 * (n // 3) + 2, 2 * (n % 3) : 2 * (n % 3) + 2].reshape(-1) / 127.5 - 1
        for b, n in np.argwhere(masked)
    }
    return RNG.standard_normal((3, 6, 8)).astype(np.float32), batch, patches


def test_pixels_of_masked_patches():
    guess, batch, patches = pixels()
    expected = np.mean([np.abs(guess[place] - patch).mean() for place, patch in patches.items()])
    assert averaged(MaskedPixels(), {'image': guess}, batch) == pytest.approx(expected, rel=1e-5)
    scaled = {place: (patch - patch.mean()) / np.sqrt(patch.var() + 1e-6) for place, patch in patches.items()}
    expected = np.mean([((guess[place] - patch) ** 2).mean() for place, patch in scaled.items()])
    assert averaged(MaskedNormalisedPixels(), {'image': guess}, batch) == pytest.approx(expected, rel=1e-5)


def test_packed_images_are_one_after_the_other():
    guess, batch, _ = pixels()
    packed = {name: x[None] for name, x in batch.items()} | {'weight': np.ones(1)}
    outputs = {'image': guess.reshape(1, 18, 8)}
    expected = averaged(MaskedPixels(), {'image': guess}, batch)
    assert averaged(MaskedPixels(), outputs, packed) == pytest.approx(expected, rel=1e-5)


def test_what_does_not_fit_is_told():
    guess, batch, _ = pixels()
    batch = on_device(batch)
    with pytest.raises(UserError, match=r'masks 6 patches of 2x2x2 numbers, but .* has 6 tokens of 18'):
        MaskedPixels()({'image': jnp.ones((3, 6, 18))}, batch)
    with pytest.raises(UserError, match=r"no output of the model 'image'.*'imagine'"):
        MaskedPixels()({'imagine': jnp.asarray(guess)}, batch)
    with pytest.raises(UserError, match=r"view masks no 'text' \(it masks \['image'\]\)"):
        MaskedTokens()({'text': jnp.asarray(guess)}, batch)
    text = {'text/target': np.zeros((3, 5), int), 'text/masked': np.ones((3, 5), bool), 'weight': np.ones(3)}
    with pytest.raises(UserError, match=r"output 'text' is \[3, 6, 8\], but 'text' has the ids \[3, 5\]"):
        MaskedTokens()({'text': jnp.asarray(guess)}, on_device(text))
