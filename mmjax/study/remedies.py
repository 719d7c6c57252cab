"""Remedies for a modality that starves another, each of which crosses with any fusion: arms with a base of their own.

    heads = with_heads(base)                                          auxiliary losses alone
    modulated(with_heads(base, detached=True), alpha=0.3)             OGM-GE
    blended(with_heads(base), {'answer': .5, 'answer_image': .4, …})  G-Blend, with the weights that were measured

Controls of a study are made from the base without heads.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from mmjax.balance.ogm import GradientModulation
from mmjax.decoders.encoded import EncodedMean
from mmjax.errors import UserError, nearest
from mmjax.experiment import Experiment
from mmjax.study.controls import classifying


def with_heads(experiment: Experiment, *, scale: float = 1.0, detached: bool = False) -> Experiment:
    """For each modality a classifier of its own on its encoder's tokens, and the objective on it: OBJECTIVE_MODALITY.

    scale: of each of these objectives, against that of the experiment. detached: they train their classifiers and no
    encoder, so that the model learns what it did, but for clipping by the norm, which they are part of.

    Raises:
        UserError: where the experiment has not one single objective, of the logits of a classifier.
    """
    name, objective = classifying(experiment, asker='with_heads')
    decoder: Any = experiment.model.decoders[objective.output]
    heads = {f'{name}_{m}': m for m in experiment.model.inputs}
    taken = sorted(heads.keys() & experiment.model.decoders.keys())
    if taken:
        raise UserError(f"with_heads: the model has a decoder '{taken[0]}' already")
    decoders: dict[str, Any] = {
        head: EncodedMean(streams=(m,), classes=decoder.classes, norm=decoder.norm, detached=detached)
        for head, m in heads.items()
    }
    added = {head: dataclasses.replace(objective, output=head, scale=scale * objective.scale) for head in heads}
    return dataclasses.replace(
        experiment,
        model=experiment.model.clone(decoders={**experiment.model.decoders, **decoders}),
        objectives={**experiment.objectives, **added},
    )


def modulated(experiment: Experiment, *, alpha: float, **options: Any) -> Experiment:
    """The experiment under OGM-GE, its heads being those of `with_heads`. options: of `GradientModulation`.

    Raises:
        UserError: where it has no heads.
    """
    heads = _heads(experiment)
    target = next(objective.target for name, objective in _objectives(experiment).items() if name in heads.values())
    balance = GradientModulation(outputs=heads, alpha=alpha, target=target, **options)
    return dataclasses.replace(experiment, balance=balance)


def blended(experiment: Experiment, weights: Mapping[str, float]) -> Experiment:
    """The experiment whose objectives have these scales, as `blend_weights` gives them.

    Raises:
        UserError: where weights and objectives differ.
    """
    objectives = experiment.objectives
    for name in weights:
        if name not in objectives:
            there = sorted(objectives)
            raise UserError(f"blended: no objective '{name}'{nearest(name, there)} (there are {there})")
    missing = sorted(objectives.keys() - weights.keys())
    if missing:
        raise UserError(f"blended: no weight for the objective '{missing[0]}'; 0 leaves it out")
    scaled = {name: dataclasses.replace(objective, scale=weights[name]) for name, objective in objectives.items()}
    return dataclasses.replace(experiment, objectives=scaled)


def pilots(experiment: Experiment) -> dict[str, Experiment]:
    """Each objective alone, by name: the runs on which G-Blend measures how it overfits and generalises."""
    return {
        name: dataclasses.replace(experiment, objectives={name: dataclasses.replace(objective, scale=1.0)})
        for name, objective in experiment.objectives.items()
    }


def _heads(experiment: Experiment) -> dict[str, str]:
    """The heads' outputs by modality."""
    decoders = experiment.model.decoders.items()
    heads = {decoder.streams[0]: name for name, decoder in decoders if isinstance(decoder, EncodedMean)}
    if not heads:
        raise UserError('modulated: the model has no heads; give it some by with_heads')
    return heads


def _objectives(experiment: Experiment) -> dict[str, Any]:
    return dict(experiment.objectives)
