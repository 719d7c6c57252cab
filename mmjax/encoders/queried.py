"""A few learned queries in place of an encoder's tokens: an attentional pooler."""

from dataclasses import field
from typing import ClassVar

import flax.linen as nn
from einops import repeat
from jaxtyping import Array, Bool

from mmjax.encoders.base import Encoder
from mmjax.nn.attention import Attention
from mmjax.nn.norm import LayerNorm, Norm
from mmjax.nn.parameter import parameter
from mmjax.nn.pool import read_by
from mmjax.types import Tokens


class Queried(Encoder):
    """What `queries` learned queries read from the tokens of an encoder by one layer of attention, after a norm.

    CoCa's attentional pooler (Yu et al. 2022, section 3.2, with 256 queries for captions). Where nothing is there to be
    read there are no tokens. Items of a packed row are read apart, each by queries of its own. What a batch says of
    single tokens (`Encoder.marks`) is not given to the encoder: choose one that does not need it.
    """

    marks: ClassVar[tuple[str, ...]] = ()

    encoder: Encoder
    queries: int = 16
    attention: Attention = field(default_factory=Attention)
    norm: Norm = field(default_factory=LayerNorm)

    @nn.compact
    def __call__(self, x: Array, present: Bool[Array, 'b'], *, train: bool) -> Tokens:
        tokens = self.encoder(x, present, train=train)
        tokens = tokens.replace(values=self.norm.copy(name='norm_tokens')(tokens.values))
        seeds = parameter(self, 'seeds', (self.queries, tokens.values.shape[-1]), ('positions', 'embed'))
        values = read_by(seeds, tokens, self.attention.copy(name='attend'))
        return Tokens.of(values, repeat(tokens.present, 'b -> b n', n=self.queries))
