"""What attribution tells of an arm's trained model, tested: shares of the modalities, perturbation, pointing game."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from mmjax.attribution.integrated import modality_share
from mmjax.attribution.methods import METHODS, attribute
from mmjax.attribution.perturbation import perturbation_areas
from mmjax.attribution.pointing import pointing_game
from mmjax.attribution.sanity import fresh_parameters, rank_correlation
from mmjax.attribution.scoring import encode, predicted
from mmjax.data import Data
from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.study.additive import sample
from mmjax.train.metrics import rounded

STEPS = 512  # of integrated gradients: trained models need more than the default for a small gap
COMPLETE = 0.01  # up to this gap


@dataclass(frozen=True)
class Explanation:
    """data: where the examples come from. examples: how many. target: the field of their classes, named by `classes`.

    image: the modality of the pointing game ('': none), and objects: which pixels of its images [b y x c] are the
    object. pictures: of how many examples the attribution is shown, half of them failures where there are so many.
    """

    data: Data
    examples: int = 200
    target: str = 'answer'
    classes: tuple[str, ...] = ()
    image: str = ''
    objects: Callable[[np.ndarray], np.ndarray] | None = None
    pictures: int = 6


def explained(explanation: Explanation, experiment: Experiment, params: Any) -> dict[str, Any]:
    """By method, for those that know the design: `share` of each modality in the sum of absolute attributions, `areas`
    of the perturbation test (the higher the difference the better), `randomised`: the median rank correlation with the
    attributions under fresh parameters (see `mmjax.attribution.sanity`), and `pointing`: hits, and hits by chance. Of
    integrated gradients `incomplete`: the share of the examples whose gap is above `COMPLETE`.

    And `pictures`: a few examples with their attributions by integrated gradients.
    """
    rows = sample(explanation.data, explanation.examples)
    batch = {name: jnp.asarray(x) for name, x in rows.items()}
    model = experiment.model
    (output,) = model.decoders
    encoded = encode(model, params, batch)
    answers = np.asarray(predicted(model, params, encoded, output=output))
    fresh = fresh_parameters(experiment, batch, seed=experiment.seed + 1)
    masks = {m: np.asarray(encoded[m].mask) for m in model.inputs}
    told: dict[str, Any] = {}
    for method in METHODS:
        try:
            found, gap = attribute(method, experiment, params, batch, steps=STEPS, target=answers)
        except UserError:
            continue  # a rule that does not know this design
        relevance = {m: found[m] for m in model.inputs}
        random = attribute(method, experiment, fresh, batch, steps=STEPS, target=answers).relevance
        share = modality_share({m: jnp.asarray(x) for m, x in relevance.items()})
        told[method] = {
            'share': {m: float(np.mean(share[m])) for m in relevance},
            'areas': perturbation_areas(model, params, encoded, relevance),
            'randomised': float(np.median(rank_correlation(relevance, random, masks))),
        }
        if gap is not None:
            told[method]['incomplete'] = float(np.mean(gap > COMPLETE))
        if explanation.image and explanation.objects is not None:
            objects = explanation.objects(rows[explanation.image])
            cells = relevance[explanation.image]
            side = round(cells.shape[1] ** 0.5)
            game = pointing_game(cells, objects, grid=(side, side))
            told[method]['pointing'] = {'hits': float(game.hit.mean()), 'chance': float(game.chance.mean())}
        if method == 'integrated_gradients' and explanation.image:
            told['pictures'] = _pictures(explanation, rows, answers, relevance)
    return told


def _pictures(
    explanation: Explanation, batch: dict[str, np.ndarray], answers: np.ndarray, relevance: dict[str, np.ndarray]
) -> list[dict[str, Any]]:
    target = batch[explanation.target]
    right, wrong = np.flatnonzero(answers == target), np.flatnonzero(answers != target)
    failures = wrong[: explanation.pictures // 2]
    chosen = [*right[: explanation.pictures - len(failures)], *failures]
    return [
        {
            'image': _png(batch[explanation.image][i]),
            'cells': [rounded(x, digits=3) for x in relevance[explanation.image][i].tolist()],
            'others': {
                m: {'ids': batch[m][i].tolist(), 'relevance': [rounded(x, digits=3) for x in values[i].tolist()]}
                for m, values in relevance.items()
                if m != explanation.image and batch[m].ndim == 2
            },
            'answer': int(answers[i]),
            'target': int(target[i]),
        }
        for i in chosen
    ]


def _png(pixels: np.ndarray) -> str:
    import PIL.Image

    file = io.BytesIO()
    PIL.Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, 'PNG')
    return base64.b64encode(file.getvalue()).decode()
