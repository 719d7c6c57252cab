"""Relation network: what every pair of one modality's tokens says of the question that the others ask."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.errors import UserError
from mmjax.fusion.base import Flow, Layered
from mmjax.fusion.late import Towers
from mmjax.nn.dense import Dense, activation
from mmjax.types import Fused, Tokens, concatenate, masked_mean


class Relation(Layered):
    """shared = f(mean over pairs (i, j) of g([o_i; o_j; q])), one token. Santoro et al. 2017, eq. 1 and section 3.2.

    o: the real tokens of `reader`, every one also with itself. q: the mean of the real tokens of all others; zero where
    there is none. The source sums over the pairs; their mean is the same but for a factor where all examples have
    equally many tokens. Without a token of `reader` it is zero, and the answer the same to every question.

    depth: blocks of each modality's tower before the pairs. g, f: widths of the layers of the two networks, each
    followed by the activation. N tokens make N^2 pairs.
    """

    depth: int = 0
    reader: str = 'image'
    g: tuple[int, ...] = (256, 256, 256, 256)
    f: tuple[int, ...] = (256,)
    activation: str = 'relu'

    @nn.compact
    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        self.reader_of(mods, self.reader)
        if not self.g:
            raise UserError('relation.g: give the width of one layer or more')
        towers = Towers(self.depth, self.block, self.remat, self.unroll, name='towers')
        streams = towers(self.enter(mods), train=train)
        x = streams[self.reader]
        others = {name: y for name, y in streams.items() if name != self.reader}
        q = masked_mean(concatenate(others)) if others else jnp.zeros_like(x.values[:, 0])
        pairs = self._first(x.values, q)
        for i, width in enumerate(self.g[1:], 1):
            pairs = self._layer(f'g_{i}', pairs, width)
        real = x.mask[:, :, None] & x.mask[:, None, :]
        count = jnp.maximum(real.sum(axis=(1, 2)), 1).astype(pairs.dtype)
        y = jnp.where(real[..., None], pairs, 0).sum(axis=(1, 2)) / count[:, None]
        for i, width in enumerate(self.f):
            y = self._layer(f'f_{i}', y, width)
        anything = jnp.stack([z.present for z in streams.values()]).any(axis=0)
        return Fused(streams, shared=Tokens.of(y[:, None, :], anything[:, None]))

    def _first(self, o: Float[Array, 'b n d'], q: Float[Array, 'b d']) -> Float[Array, 'b n n w']:
        """The first layer of g, of o_i, o_j and q one by one: of the triples they would be N^2 times as many sums."""
        width = self.g[0]
        first = Dense((width,), ('embed', 'mlp'), name='g_first')(o)
        second = Dense((width,), ('embed', 'mlp'), bias=False, name='g_second')(o)
        asked = Dense((width,), ('embed', 'mlp'), bias=False, name='g_question')(q)
        return activation(self.activation)(first[:, :, None] + second[:, None, :] + asked[:, None, None, :])

    def _layer(self, name: str, x: Float[Array, '*b d'], width: int) -> Float[Array, '*b w']:
        return activation(self.activation)(Dense((width,), ('embed', 'mlp'), name=name)(x))

    def flow(self, modalities: Sequence[str]) -> Flow:
        return {('shared', name): self.depth for name in modalities}
