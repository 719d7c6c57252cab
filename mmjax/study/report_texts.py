"""What the report of a study says about its tables."""

from collections.abc import Mapping
from typing import Any

HEAD = (
    'arm', 'parameters', 'MFLOPs', 'layers', 'MLP ratio', 'step', 'MB', 'score', 'interval', 'difference', 'interval',
    'p', 'p of seeds alone', 'rate',
)  # fmt: skip
USES = (
    'A design is said to use all modalities where it beats the best single one, beats the same model without flow '
    'between them, and loses accuracy when its logits are replaced by their additive projection (EMAP): each by an '
    'unadjusted 95 % interval that excludes 0 (exploratory; the projection is made on a sample of the test, and its '
    "interval takes it as given). A shuffled modality is another example's, at test time alone."
)
SEEDS = (
    "After ±: half of Student's 95 % interval over seeds, which takes the test set as given; then in brackets the "
    'difference from "{reference}", seed by seed. Neither is adjusted for how many there are (exploratory).'
)
ROBUST = (
    'Accuracy without a modality, and area under the accuracy over levels of noise (and as a share of the clean '
    'score). Where a share r of the examples lack a modality at random, the score is (1 - r) clean + r without: '
    '"area without" is its mean over all r.'
)
KNOWN = 'What is known of the data, in percent, to read the scores against:'
AGREE = (
    'Shares of the test on which arm and "{reference}" of the same seed are both right, one of them alone, or neither. '
    'How much of that is chance tells the row of "{reference}" itself, beside its run of another seed.'
)
BALANCE = (
    'Which modality a trained model leans on. Worth: its Shapley value, in points of accuracy over no input. '
    'Utilisation: the share of the accuracy that is lost without it. Together: what two modalities tell beyond what '
    'each tells alone (with both, less with either alone, plus with none). What is left out is absent, and a model '
    "that was never trained so may do worse than it need. Gradients: the share of the norms of the encoders' "
    'gradients in training; a larger encoder has a larger one.'
)
LOSSES = (
    'At equal {regime}, the losses of arms with several objectives, such as a classifier for each modality, over the '
    'last stretch of their curves: each without its weight.'
)
EXPLAINED = (
    'Of the first seed. Perturbation: area under the share of unchanged answers while tokens are masked, the most or '
    'the least relevant first; a method that found what the model needs has a large difference, and chance gives 0. '
    'Pointing game: the most relevant cell of the image holds a part of the object. Rules that do not know a design '
    'are left out. Randomised: the rank correlation with what the method tells of a model that was not trained; near 1 '
    'it does not show the model (0 also where it tells the same of all tokens). Incomplete: of how many examples the '
    'integrated gradients miss more than 1 % of the change of the logit that they explain.'
)
TUNING = (
    'Validation score of each learning rate, mean over {seeds} seed(s), and the one that was chosen. "Edge": nothing '
    'beyond it was tried, so the arm may be worth more than it shows. "Best of 3": the score expected of tuning with '
    'three of the rates that were tried, drawn at random with replacement; arms whose grid was extended have more. '
    '"Fresh seeds": the same score of the reported runs; what it is below that of the chosen rate was luck in tuning.'
)


def how(summary: Mapping[str, Any]) -> str:
    """What the scores are, and which code gave them."""
    code = ', '.join(f'{commit} ({runs})' for commit, runs in summary['code'].items())
    return (
        f'{summary["primary"]}, mean over {summary["seeds"]} paired seeds of {summary["steps"]:,} steps, in percent; '
        f'MFLOPs are of a training step on one example; a step takes that many times what one of the arm '
        f'"{summary["reference"]}" takes (whose own number tells the noise), and MB as the compiler counts them, on '
        f'the machine that measured it. Intervals: 95 %, bootstrap over seeds and images. Differences '
        f'are from the arm "{summary["reference"]}"; p is adjusted by Holm over {summary["family"]} declared '
        f'comparisons; beside it, unadjusted, that of the sign-flip test of seeds alone, which cannot go below '
        f'{summary["smallest_p_of_seeds"]:.2g}. A run that diverged counts with its last finite state. Runs by the '
        f'commit of their code: {code}.'
    )
