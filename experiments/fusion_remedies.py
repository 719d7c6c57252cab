"""What do the remedies for a starved or missing modality change, on data whose information is known?

    scripts/mmjax study experiments/fusion_remedies.py
    scripts/mmjax study experiments/fusion_remedies.py --quick    # a few arms, some minutes: shows that it runs

The data are `synergy/mixed` (see `fusion_decomposition`): with both modalities there is nothing that a model could not
know, with one alone the best accuracy is 1/4, with none 1/16. The training set is small, so that there is something to
overfit. Two designs, each plain and with: a classifier for each modality beside (`heads`), those weighed by gradient
blending (`blended`), on-the-fly gradient modulation (`ogm`), modality dropout (`dropout`), and dropout with a learned
token for what is missing (`imputed`). Declared are the differences from `early` of what it becomes with each; the
`bottleneck` arms are to be read against `bottleneck`. The report's robustness tells what each leaves of the score
without a modality.
"""

import dataclasses

from experiments import small
from experiments.fusion_synergy import base, split
from mmjax.data import DropModality
from mmjax.encoders.imputed import Imputed
from mmjax.experiment import Experiment
from mmjax.fusion.bottleneck import Bottleneck
from mmjax.study.probes import probes
from mmjax.study.remedies import blended, modulated, with_heads
from mmjax.study.study import Arm, Study

TRAIN = 'train[:4000]'
RATES = {'image': 0.2, 'text': 0.2}
# What `scripts/blend_weights experiments/fusion_remedies.py early_heads`, and `bottleneck_heads`, printed.
WEIGHTS = {
    'early': {'answer': 0.6319, 'answer_image': 0.0635, 'answer_text': 0.3046},
    'bottleneck': {'answer': 0.9917, 'answer_image': 0.0014, 'answer_text': 0.0069},
}


def plain() -> Experiment:
    mixed = base('mixed', classes=16, steps=800, references=(0.25, 0.25))
    return dataclasses.replace(mixed, data=split(TRAIN, 'mixed'))


def dropped(experiment: Experiment) -> Experiment:
    """Trained with modalities missing at random; never both."""
    data = experiment.data
    return dataclasses.replace(
        experiment, data=dataclasses.replace(data, transforms=(*data.transforms, DropModality(RATES)))
    )


def imputed(experiment: Experiment) -> Experiment:
    """A learned token stands for each modality that is missing."""
    model = experiment.model
    encoders = {name: Imputed(encoder) for name, encoder in model.encoders.items()}
    return dataclasses.replace(experiment, model=model.clone(encoders=encoders))


def arms(name: str, experiment: Experiment, *, compared: bool = True) -> tuple[Arm, ...]:
    remedies = {
        'heads': with_heads(experiment),
        'blended': blended(with_heads(experiment), WEIGHTS[name]),
        'ogm': modulated(with_heads(experiment, detached=True), alpha=0.3),
        'dropout': dropped(experiment),
        'imputed': dropped(imputed(experiment)),
    }
    return tuple(
        Arm(f'{name}_{remedy}', base=made, matched=False, compared=compared) for remedy, made in remedies.items()
    )


def study() -> Study:
    early = plain()
    bottleneck = Bottleneck(depth=2, num_tokens=2, block=early.model.fusion.block, unroll=2)
    other = dataclasses.replace(early, model=early.model.clone(fusion=bottleneck))
    return Study(
        name='fusion_remedies',
        base=early,
        arms=(
            Arm('early'),
            *arms('early', early),
            Arm('bottleneck', base=other, matched=False, compared=False),
            *arms('bottleneck', other, compared=False),
        ),
        reference='early',
        regimes=('parameters',),
        seeds=tuple(range(100, 111)),
        probes=probes(('image', 'text'), small.spread(split('test[:1000]', 'mixed')), additive=128),
        quick=('--steps', '200'),
    )
