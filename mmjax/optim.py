"""Optax from frozen dataclasses: schedules, the optimiser, which parameters train, how fast, and which decay."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import optax

from mmjax.errors import UserError
from mmjax.paths import check_patterns, deciding, flat


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Base of the learning-rate schedules: step -> rate."""

    def build(self, steps: int) -> Callable[[Any], Any]:
        """steps: the length of the run."""
        raise NotImplementedError

    def depends_on_length(self) -> bool:
        """Whether a longer run has other rates from the start, so that a finished run cannot be prolonged."""
        return True


@dataclasses.dataclass(frozen=True)
class WarmupCosine(Schedule):
    """Linear from 0 to `peak` over `warmup` steps, then a cosine down to `end` (Loshchilov & Hutter 2017, eq. 5)."""

    peak: float = 1e-3
    warmup: int = 100
    end: float = 0.0

    def build(self, steps: int) -> Callable[[Any], Any]:
        _check_warmup(self.warmup)
        if self.warmup >= steps:
            raise UserError(
                f'optim.schedule.warmup: {self.warmup} steps of warm-up do not fit into a run of {steps} steps'
            )
        # What optax.warmup_cosine_decay_schedule makes, but that the peak may be traced: lanes differ in it.
        rise = optax.linear_schedule(0.0, self.peak, self.warmup)
        fall = optax.cosine_decay_schedule(self.peak, steps - self.warmup, self.end / self.peak if self.end else 0.0)
        return optax.join_schedules([rise, fall], [self.warmup])


@dataclasses.dataclass(frozen=True)
class WarmupConstant(Schedule):
    """Linear from 0 to `peak` over `warmup` steps, then constant: such a run can be prolonged."""

    peak: float = 1e-3
    warmup: int = 100

    def build(self, steps: int) -> Callable[[Any], Any]:
        _check_warmup(self.warmup)
        start = 0.0 if self.warmup else self.peak  # without steps of warm-up Optax stays at the start for ever
        return optax.warmup_constant_schedule(start, self.peak, self.warmup)

    def depends_on_length(self) -> bool:
        return False


def _check_warmup(warmup: int) -> None:
    if warmup < 0:
        raise UserError(f'optim.schedule.warmup: {warmup} is negative; 0 is no warm-up')


@dataclasses.dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) after clipping by the global norm.

    decay: weight decay, times the learning rate, on parameters whose name is in `decayed`: matrices, not biases, norms,
    embeddings, positions. clip: largest global norm of the gradient of what trains; 0: no clipping. ema: decay of the
    moving average of the parameters that is evaluated; 0: none. accumulate: into how many parts the batch is cut, one
    after the other, to save memory; the gradient is that of the whole batch. rates: by pattern (see `paths`), what the
    learning rate of these parameters, and so their decay, is multiplied by; without one, 1. 0 freezes them.

        {'encoders_*': 0.1}                          encoders learn slower
        {'encoders_image': 0.0}                      one is frozen
        {'*': 0.0, 'decoders_answer': 1.0}           linear probe: the classifier alone
        {'*': 0.0, '*/lora': 1.0}                    adapters alone (see `nn.lora`)

    Of several patterns that fit, the one that reaches deepest into the path decides, of these the one with most
    letters. Frozen parameters keep their values bit for bit, also in the moving average; they have no gradient, no
    moments, and no part in the clipped norm. Their dropout stays on: for features as an evaluation sees them, set it
    to 0.
    """

    schedule: Schedule = dataclasses.field(default_factory=WarmupCosine)
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    decay: float = 1e-4
    decayed: tuple[str, ...] = ('kernel',)
    clip: float = 1.0
    ema: float = 0.0
    accumulate: int = 1
    rates: dict[str, float] = dataclasses.field(default_factory=dict, metadata={'old': {}})

    def build(self, steps: int) -> optax.GradientTransformation:
        """The optimiser of the parameters that train (see `trained`)."""
        parts = [optax.clip_by_global_norm(self.clip)] if self.clip else []
        parts.append(
            optax.adamw(
                self.schedule.build(steps), self.b1, self.b2, self.eps, weight_decay=self.decay, mask=self.decay_mask
            )
        )
        if self.rates:
            parts.append(optax.stateless(lambda updates, _: self._scaled(updates)))
        return optax.chain(*parts) if len(parts) > 1 else parts[0]

    def decay_mask(self, params: Any) -> Any:
        """A tree of booleans like `params`: which leaves decay."""
        return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in self.decayed, params)

    def trained(self, params: Any) -> Any:
        """`params` with an `optax.MaskedNode`, which has no leaves, in place of each leaf that is frozen.

        Raises:
            UserError: on a rate below 0 or not finite, a pattern that fits no parameter, or where nothing trains.
        """
        if not self.rates:
            return params
        for pattern, rate in self.rates.items():
            if not (math.isfinite(rate) and rate >= 0):
                raise UserError(f'optim.rates: {rate} of {pattern} is no factor; give 0 to freeze, or a number above 0')
        paths = flat(params)
        check_patterns(self.rates, paths, where='optim.rates')
        if not any(self._rate(path) for path in paths):
            raise UserError(f'optim.rates: {self.rates} freezes every parameter; give some part a rate above 0')
        return _map_with_name(lambda path, x: x if self._rate(path) else optax.MaskedNode(), params)

    def _scaled(self, updates: Any) -> Any:
        return _map_with_name(lambda path, x: self._rate(path) * x, updates)

    def _rate(self, path: str) -> float:
        pattern = deciding(tuple(self.rates), path)
        return 1.0 if pattern is None else self.rates[pattern]


def joined(trained: Any, params: Any) -> Any:
    """`params` with the leaves of `trained` where it has any (see `AdamW.trained`)."""
    return jax.tree.map(lambda new, old: old if _is_masked(new) else new, trained, params, is_leaf=_is_masked)


def _is_masked(x: Any) -> bool:
    return isinstance(x, optax.MaskedNode)


def _map_with_name(function: Callable[[str, Any], Any], tree: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, x: function('/'.join(key.key for key in path), x), tree)
