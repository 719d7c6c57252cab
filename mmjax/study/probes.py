"""What every trained model of a study is asked besides its score: with less, with noise, with another's input."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from mmjax.data import Data
from mmjax.errors import UserError
from mmjax.views.absent import Without
from mmjax.views.base import CLEAN, View
from mmjax.views.mismatched import Mismatched
from mmjax.views.noise import Noise

LEVELS = (0.1, 0.2, 0.4, 0.8)
MOST_COMBINATIONS = 2**20  # that an additive projection may have to answer


@dataclass(frozen=True)
class Probes:
    """data: examples that the probes are made on, such as a part of the test split. views: by name.

    additive: on how many examples of the reported split the additive projection is computed (see
    `mmjax.study.additive`); 0: not at all. Of M modalities it answers for up to additive**M combinations.
    """

    data: Data
    views: dict[str, View] = field(default_factory=dict)
    additive: int = 0

    def check(self, modalities: Sequence[str]) -> None:
        """Raises UserError where a subset of the modalities is missing, or nothing additive can be made of them."""
        needed = {subset_name(there) for n in range(len(modalities) + 1) for there in _subsets(modalities, n)}
        if missing := sorted(needed - self.views.keys()):
            raise UserError(f'probes: no view {missing}; every subset of {list(modalities)} is needed (see `probes`)')
        if self.additive and len(modalities) < 2:
            raise UserError(f'probes.additive: the model reads {list(modalities)} alone, nothing adds up; set it to 0')
        if self.additive ** len(modalities) > MOST_COMBINATIONS:
            raise UserError(
                f'probes.additive: {self.additive} examples of {len(modalities)} modalities make up to '
                f'{self.additive ** len(modalities):,} combinations, more than {MOST_COMBINATIONS:,}; ask for at most '
                f'{int(MOST_COMBINATIONS ** (1 / len(modalities)))} examples'
            )


def probes(modalities: Sequence[str], data: Data, *, additive: int = 200, levels: Sequence[float] = LEVELS) -> Probes:
    """Every subset of the modalities, a shuffled partner for each, and noise of several levels on each.

    The names: `with:` and the modalities that are left (`with:image+text`: all of them, clean; `with:`: none),
    `shuffled:M`, `noise:M:LEVEL`. Which examples lack a modality at random needs no probe: at a missing rate r the
    expected score is (1 - r) of the clean one and r of the one without it.
    """
    views: dict[str, View] = {}
    for size in range(len(modalities) + 1):
        for there in _subsets(modalities, size):
            gone = tuple(m for m in modalities if m not in there)
            views[subset_name(there)] = Without(gone) if gone else CLEAN
    views |= {f'shuffled:{m}': Mismatched((m,)) for m in modalities}
    views |= {f'noise:{m}:{level:g}': Noise(m, level) for m in modalities for level in levels}
    return Probes(data, views, additive)


def subset_name(modalities: Sequence[str]) -> str:
    """`with:image+text`."""
    return 'with:' + '+'.join(sorted(modalities))


def _subsets(modalities: Sequence[str], size: int) -> list[tuple[str, ...]]:
    return list(itertools.combinations(modalities, size))
