"""Arms that are no designs: what a score is worth is told by what the same model does without fusing.

Protocol after Hessel & Lee 2020 (unimodal models beside every multimodal one) and Gat et al. 2021 (shuffled partners).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mmjax.data import Data
from mmjax.data.permuted import Permuted
from mmjax.decoders.classification import MaskedMean
from mmjax.errors import UserError
from mmjax.evals.accuracy import Accuracy, EnsembleAccuracy
from mmjax.experiment import Experiment
from mmjax.fusion.late import Late
from mmjax.study.study import Arm
from mmjax.views.absent import Constant, Without
from mmjax.views.base import View
from mmjax.views.mismatched import Mismatched

LARGER = '8'  # the MLP's ratio, twice the default
LAYERS = ('depth', 'block', 'remat', 'unroll')  # what a tower takes from the fusion


def controls(base: Experiment) -> tuple[Arm, ...]:
    """Every control of a base experiment: for each modality alone, shuffled and constant; and over all of them.

    only_M: sees no other modality, in training and test. shuffled_M: that modality always is another example's of the
    batch (in a split whose neighbours share an image that may be the same one; `data.spread` parts them). constant_M:
    it is always the same. shuffled_labels: the targets of training are permuted over the split, anew for each seed; it
    must be at chance.
    isolated: no modality reads another. ensemble: a model for each modality, none knowing of the other, whose
    probabilities are averaged. larger_mlp: the base with an MLP of ratio 8, not matched: is size what it takes?
    longer: the base with twice the steps, not matched: how far from its plateau is it?
    """
    (_, objective), modalities = classifying(base, asker='controls'), base.model.inputs
    arms = [
        Arm(f'only_{m}', base=seeing(base, Without(tuple(o for o in modalities if o != m))), role='unimodal')
        for m in modalities
    ]
    for what, view in (('shuffled', Mismatched), ('constant', Constant)):
        arms += [Arm(f'{what}_{m}', base=seeing(base, view((m,))), role='control') for m in modalities]
    return (
        *arms,
        Arm('shuffled_labels', base=_relabelled(base, objective.target), role='control'),
        Arm('isolated', ('model.fusion=isolated',), role='no_flow'),
        Arm('ensemble', base=ensemble(base), role='control'),
        Arm('larger_mlp', ('--model.fusion.block.mlp.ratio', LARGER), role='control', matched=False),
        Arm('longer', ('--steps', str(2 * base.steps)), role='control', matched=False),
    )


def seeing(experiment: Experiment, view: View) -> Experiment:
    """The experiment in which training and every evaluation see this of a batch."""
    evals = {name: dataclasses.replace(e, view=view, references={}) for name, e in experiment.evals.items()}
    return dataclasses.replace(taught(experiment, view), evals=evals)


def taught(experiment: Experiment, view: View) -> Experiment:
    """The experiment in which training sees this of a batch."""
    objectives = {name: dataclasses.replace(o, view=view) for name, o in experiment.objectives.items()}
    return dataclasses.replace(experiment, objectives=objectives)


def _relabelled(experiment: Experiment, target: str) -> Experiment:
    """The experiment that is trained on the targets of other examples."""
    if not isinstance(experiment.data, Data):
        given = type(experiment.data).__name__
        raise UserError(f'controls: labels are permuted in one Data, not in a {given}; study one of its sources')
    alone = dataclasses.replace(experiment.data, workers=0)
    return dataclasses.replace(experiment, data=Permuted(alone, (target,), workers=experiment.data.workers))


def classifying(experiment: Experiment, *, asker: str) -> tuple[str, Any]:
    """The name of the experiment's objective, and itself.

    Raises:
        UserError: in the name of `asker`, where it has not one single objective, of the logits of a classifier.
    """
    objectives: dict[str, Any] = dict(experiment.objectives)
    if len(objectives) != 1:
        raise UserError(f'{asker}: needs one single objective, the experiment has {sorted(objectives)}')
    ((name, objective),) = objectives.items()
    if not all(hasattr(objective, field) for field in ('output', 'target')):
        raise UserError(f'{asker}: {type(objective).__name__} has no output and target, as a classifying one has')
    if not hasattr(experiment.model.decoders.get(objective.output), 'classes'):
        raise UserError(f"{asker}: the model has no classifier '{objective.output}' to take the classes from")
    return name, objective


def ensemble(experiment: Experiment) -> Experiment:
    """A tower and a classifier for each modality, trained by its own loss; evaluators average the probabilities.

    The losses share no parameter, and clipping, which would couple the gradients by their norm, is off: it is one
    program for models that train independently.

    Raises:
        UserError: where the experiment has not one single objective, of the logits of a classifier, or its fusion no
            layers to make the towers of.
    """
    _, objective = classifying(experiment, asker='ensemble')
    model, output = experiment.model, objective.output
    fusion: Any = model.fusion
    streams = model.inputs
    names = [f'{output}_{m}' for m in streams]
    decoder: Any = model.decoders[output]
    decoders: dict[str, Any] = {
        name: MaskedMean(streams=(m,), classes=decoder.classes, norm=decoder.norm)
        for name, m in zip(names, streams, strict=True)
    }
    missing = [name for name in LAYERS if not hasattr(fusion, name)]
    if missing:
        raise UserError(f'ensemble: its towers are made as the fusion is; {type(fusion).__name__} has no {missing[0]}')
    late = Late(**{name: getattr(fusion, name) for name in LAYERS}, entry_norm=fusion.entry_norm)
    return dataclasses.replace(
        experiment,
        model=model.clone(fusion=late, decoders=decoders),
        objectives={name: dataclasses.replace(objective, output=name) for name in names},
        evals={name: _averaged(evaluation, names) for name, evaluation in experiment.evals.items()},
        optim=dataclasses.replace(experiment.optim, clip=0.0),
    )


def _averaged(evaluation: Any, names: Sequence[str]) -> Any:
    evaluator: Accuracy = evaluation.evaluator
    averaged = EnsembleAccuracy(target=evaluator.target, by=evaluator.by, outputs=tuple(names))
    return dataclasses.replace(evaluation, evaluator=averaged)
