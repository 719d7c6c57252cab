"""Token ids to tokens: a transformer, or a recurrent network. Id 0 is padding."""

from dataclasses import field
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from mmjax.encoders.base import Encoder
from mmjax.errors import UserError
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
        values = self._typed(Embedding(self.vocabulary, self.width, name='embed')(x), x, positions)
        values = self.positions.copy(name='place')(values, (x.shape[1],), positions)
        if values.shape[1] != x.shape[1]:
            raise UserError(
                f'text encoder: of {x.shape[1]} ids its positions make {values.shape[1]} tokens; the class token of '
                'a text is an id at its start'
            )
        mask = (x != PAD_ID) & present[:, None]
        tokens = Tokens.of(values, mask, positions=positions, segments=segments, causal=self._ordered(x, causal))
        return Stack(self.block, self.depth, self.remat, self.unroll, name='stack')(tokens, train=train)

    def _typed(
        self, values: Float[Array, 'b n d'], x: Int[Array, 'b n'], positions: Int[Array, 'b n'] | None
    ) -> Float[Array, 'b n d']:
        """The embedding and what is added to it but positions. Called inside the compact method."""
        return values

    def _ordered(self, x: Int[Array, 'b n'], causal: Int[Array, 'b n'] | None) -> Int[Array, 'b n'] | None:
        """Which token may read which, see `Tokens.causal`; None: each reads all."""
        return causal


class CausalTokenEncoder(TokenEncoder):
    """A token reads itself and those before it, here and in the fusion after it, unless the batch says otherwise.

    CLIP's text tower (Radford et al. 2021, section 2.4); Gemma's layers.
    """

    def _ordered(self, x: Int[Array, 'b n'], causal: Int[Array, 'b n'] | None) -> Int[Array, 'b n'] | None:
        return jnp.ones_like(x) if causal is None else causal


class PairEncoder(TokenEncoder):
    """Two texts in a row with a learned vector added to each token, one for those up to the first `separator` and
    one for those after it: BERT's segment embeddings (Devlin et al. 2019, figure 2).

        ids     [CLS] a a [SEP] b b b [SEP]
        vector    0   0 0   0   1 1 1   1

    separator: its id; by default that of the English BERT's [SEP].
    """

    marks: ClassVar[tuple[str, ...]] = ('segments', 'positions')  # one token alone does not tell which text it is of

    separator: int = 102

    def _typed(
        self, values: Float[Array, 'b n d'], x: Int[Array, 'b n'], positions: Int[Array, 'b n'] | None
    ) -> Float[Array, 'b n d']:
        table = parameter(self, 'types', (2, self.width), (None, 'embed')).astype(values.dtype)
        before = jnp.cumsum(x == self.separator, axis=1) - (x == self.separator)
        if positions is not None:  # the examples of a packed row begin at 0, each with a count of its own
            before -= jnp.take_along_axis(before, jnp.arange(x.shape[1]) - positions, axis=1)
        return values + jnp.take(table, jnp.minimum(before, 1), axis=0)


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
