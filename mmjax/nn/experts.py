"""A mixture of experts: many position-wise networks, of which each token is given to a few."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, repeat
from jaxtyping import Array, Float, Int

from mmjax.errors import UserError
from mmjax.nn.mlp import FeedForward
from mmjax.nn.parameter import parameter
from mmjax.sharding.mapped import Place, shard_mapped
from mmjax.types import Tokens

ROUTER = nn.initializers.variance_scaling(1.0, 'fan_in', 'truncated_normal')
MATRIX = nn.initializers.variance_scaling(1.0, 'fan_in', 'truncated_normal', in_axis=1, out_axis=2, batch_axis=(0,))

INTO, OUT = ('expert', 'expert_embed', 'mlp'), ('expert', 'mlp', 'expert_embed')  # how weights are cut
# What a device has of them while it computes, by (whether it is the way out, which of the two).
HELD = {
    (False, 'kernel'): ('expert', 'embed', 'mlp'),
    (False, 'bias'): ('expert', 'mlp'),
    (True, 'kernel'): ('expert', 'mlp', 'embed'),
    (True, 'bias'): ('expert', 'embed'),
}


class MixtureOfExperts(nn.Module):
    """y = Σ_e p_e expert_e(x) over the `top_k` experts of the largest p = softmax(W x), which is taken in float32.

    Shazeer et al. 2017, eq. 1, with the probabilities of Fedus et al. 2021 (eq. 1-2), which are not divided by their
    sum, so that one expert's gate has a gradient too. expert: the form of all of them.

    No expert is ever full and no token is dropped (Gale et al. 2022): tokens are sorted by expert and multiplied in
    groups, so that an example depends on no other, and the work is that of the chosen experts. Padding belongs to no
    expert. On a mesh each device sorts the tokens of its own rows; where `expert` cuts it, those of all devices along
    that axis, for the experts that it has, and what they make of a token is added up where the token is at home.

    Raises:
        UserError: where there is no expert, or not as many as a token is to be given to.
    """

    expert: FeedForward
    experts: int = 8
    top_k: int = 2

    @nn.compact
    def __call__(
        self, x: Tokens, lengths: Sequence[int]
    ) -> tuple[Float[Array, 'b n d'], Float[Array, 'b modalities 4 e']]:
        """lengths: how many of the n tokens, in their order, belong to each modality.

        Returns:
            What is added to the tokens, zero at padding; and of the real tokens of each modality the sums that
            `types.ROUTING` names, by expert.
        """
        if not 1 <= self.top_k <= self.experts:
            raise UserError(f'fusion.top_k: {self.top_k} of {self.experts} experts; at least 1, at most all of them')
        # Not called a kernel: weight decay would pull the router to giving every expert the same.
        router = parameter(self, 'router', (x.values.shape[-1], self.experts), ('embed', None), ROUTER)
        logits = jnp.einsum('bnd,de->bne', x.values.astype(jnp.float32), router.astype(jnp.float32))
        gates, chosen = jax.lax.top_k(jax.nn.softmax(logits), self.top_k)
        chosen = jnp.where(x.mask[:, :, None], chosen, self.experts)  # behind the last group: no expert computes it
        return self._computed(x.values, chosen, gates), _told(logits, chosen, lengths)

    def _computed(
        self, x: Float[Array, 'b n d'], chosen: Int[Array, 'b n k'], gates: Float[Array, 'b n k']
    ) -> Float[Array, 'b n d']:
        d, f, bias = x.shape[-1], self.expert.size(x.shape[-1]), self.expert.bias
        weights = {name: _Matrices((self.experts, d, f), INTO, bias, name=name)() for name in self.expert.inner}
        weights['down'] = _Matrices((self.experts, f, d), OUT, bias, name='down')()
        expert = self.expert.clone(parent=None)  # only its arithmetic: within the map nothing is bound

        def local(place: Place, x: Array, chosen: Array, gates: Array, weights: Any) -> tuple[Array]:
            x, chosen, gates = (place.gather(rows, 'expert') for rows in (x, chosen, gates))
            here = weights['down']['kernel'].shape[0]
            chosen = chosen - here * place.index('expert')
            chosen = jnp.where((chosen >= 0) & (chosen < here), chosen, here)
            if 'bias' in weights['down']:  # which is added once, however many devices have a part of the hidden units
                bias = jnp.where(place.index('mlp') == 0, weights['down']['bias'], 0)
                weights = {**weights, 'down': {**weights['down'], 'bias': bias}}
            y = _grouped(expert, weights, x, chosen, gates)
            return (place.scatter_sum(place.sum(y, 'mlp'), 'expert'),)

        tokens = ('batch', 'length')
        held = {name: {kind: HELD[name == 'down', kind] for kind in part} for name, part in weights.items()}
        (y,) = shard_mapped(local, [tokens, tokens, tokens, held], [tokens])(x, chosen, gates, weights)
        return y


class _Matrices(nn.Module):
    """One matrix and, where there is one, one bias an expert."""

    shape: Sequence[int]
    axes: Sequence[str]
    bias: bool

    @nn.compact
    def __call__(self) -> dict[str, Array]:
        found = {'kernel': parameter(self, 'kernel', self.shape, self.axes, MATRIX)}
        if self.bias:
            shape, axes = (self.shape[0], self.shape[2]), (self.axes[0], self.axes[2])
            found['bias'] = parameter(self, 'bias', shape, axes, nn.initializers.zeros)
        return found


def _grouped(
    expert: FeedForward,
    weights: Mapping[str, Mapping[str, Array]],
    x: Float[Array, 'b n d'],
    chosen: Int[Array, 'b n k'],
    gates: Float[Array, 'b n k'],
) -> Float[Array, 'b n d']:
    """Σ_k gate_k expert_k(x): tokens in the order of their experts, then back. chosen: its number; more: no expert."""
    (b, n, k), experts = chosen.shape, weights['down']['kernel'].shape[0]
    of, tokens = rearrange(chosen, 'b n k -> (b n k)'), rearrange(x, 'b n d -> (b n) d')
    order = jnp.argsort(of, stable=True)
    sorted_of, sizes = of[order], jnp.bincount(of, length=experts)
    # What a kernel leaves in the rows behind the last group is not said: they are cut off on the way in and out, so
    # that neither they nor their gradients are read.
    real = (sorted_of < experts)[:, None]

    def product(x: Float[Array, 'r i'], w: Mapping[str, Array]) -> Float[Array, 'r o']:
        y = jax.lax.ragged_dot(x.astype(w['kernel'].dtype), w['kernel'], sizes)
        return jnp.where(real, y + jnp.take(w['bias'], sorted_of, axis=0, mode='clip') if 'bias' in w else y, 0)

    rows = jnp.where(real, tokens[order // k], 0)
    y = product(expert.hidden(*(product(rows, weights[name]) for name in expert.inner)), weights['down'])
    y = rearrange(y[jnp.argsort(order)], '(b n k) d -> b n k d', b=b, n=n)
    return (y * gates[:, :, :, None].astype(y.dtype)).sum(axis=2)


def _told(
    logits: Float[Array, 'b n e'], chosen: Int[Array, 'b n k'], lengths: Sequence[int]
) -> Float[Array, 'b modalities 4 e']:
    """Of the real tokens of each modality, what `types.ROUTING` names."""
    experts, logs = logits.shape[-1], jax.nn.log_softmax(logits)
    load = jax.nn.one_hot(chosen, experts).sum(axis=2)  # nothing where it is none of them
    z = jnp.square(jax.nn.logsumexp(logits, axis=-1)) / experts
    p = jnp.exp(logs)
    told = jnp.stack([load, p, -p * logs, repeat(z, 'b n -> b n e', e=experts)], axis=2)
    told = jnp.where((chosen[:, :, 0] < experts)[:, :, None, None], told, 0)
    starts = np.cumsum([0, *lengths])
    parts = [told[:, start:stop].sum(axis=1) for start, stop in itertools.pairwise(starts.tolist())]
    return jnp.stack(parts, axis=1)
