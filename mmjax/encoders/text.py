"""Token ids to tokens: a transformer, or a recurrent network. Id 0 is padding."""

from dataclasses import field
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmjax.encoders.base import Encoder
from mmjax.nn.block import Block, Stack
from mmjax.nn.parameter import parameter
from mmjax.nn.positions import Learned, Positions
from mmjax.nn.recurrent import Recurrent
from mmjax.types import PAD_ID, Tokens


class Embedding(nn.Module):
    """A table of vectors N(0, 0.02^2), one an id."""

    vocabulary: int
    width: int

    @nn.compact
    def __call__(self, ids: Int[Array, 'b n']) -> Float[Array, 'b n d']:
        table = parameter(self, 'embedding', (self.vocabulary, self.width), ('vocab', 'embed'))
        return jnp.take(table, ids, axis=0)


class TokenEncoder(Encoder):
    """Embedding, positions and a transformer (depth 0: none). Devlin et al. 2019, without segment embeddings.

    Where the batch marks the text as causal, so are the layers (Radford et al. 2018).
    """

    marks: ClassVar[tuple[str, ...]] = ('segments', 'positions', 'causal')

    vocabulary: int
    width: int = 128
    depth: int = 2
    block: Block = field(default_factory=Block)
    positions: Positions = field(default_factory=Learned)
    remat: str = 'none'
    unroll: int = 1

    @nn.compact
    def __call__(
        self,
        x: Int[Array, 'b n'],
        present: Bool[Array, 'b'],
        *,
        train: bool,
        segments: Int[Array, 'b n'] | None = None,
        positions: Int[Array, 'b n'] | None = None,
        causal: Int[Array, 'b n'] | None = None,
    ) -> Tokens:
        values = Embedding(self.vocabulary, self.width, name='embed')(x)
        values = self.positions.copy(name='place')(values, (x.shape[1],), positions)
        mask = (x != PAD_ID) & present[:, None]
        tokens = Tokens.of(values, mask, positions=positions, segments=segments, causal=causal)
        return Stack(self.block, self.depth, self.remat, self.unroll, name='stack')(tokens, train=train)


class RecurrentEncoder(Encoder):
    """Embedding and a recurrent network; its state after each word is a token.

    cell: 'lstm' (Hochreiter & Schmidhuber 1997) or 'gru' (Cho et al. 2014). bidirectional: half the width reads
    forwards, half backwards (Schuster & Paliwal 1997).
    """

    vocabulary: int
    width: int = 128
    cell: str = 'lstm'
    bidirectional: bool = False

    @nn.compact
    def __call__(self, x: Int[Array, 'b n'], present: Bool[Array, 'b'], *, train: bool) -> Tokens:
        mask = (x != PAD_ID) & present[:, None]
        values = Embedding(self.vocabulary, self.width, name='embed')(x)
        values = Recurrent(self.width, self.cell, self.bidirectional, name='recurrent')(values, mask)
        return Tokens.of(values, mask)
