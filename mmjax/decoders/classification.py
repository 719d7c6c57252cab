"""Logits over classes, by seven read-outs. Logits are float32 whatever the compute dtype."""

from collections.abc import Mapping
from dataclasses import field
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mmjax.decoders.base import Decoder
from mmjax.errors import UserError
from mmjax.nn.attention import Attention
from mmjax.nn.dense import Dense
from mmjax.nn.norm import LayerNorm, Norm
from mmjax.nn.parameter import parameter
from mmjax.nn.pool import Pool, TanhPool, read_by
from mmjax.types import Fused, Tokens, concatenate, masked_mean


class Classifier(Decoder):
    """Base of the read-outs. classes: how many logits. norm: of the tokens before they are pooled."""

    abstract: ClassVar[bool] = True

    classes: int = 2
    norm: Norm = field(default_factory=LayerNorm)

    def _normed(self, tokens: Tokens, name: str = 'norm_tokens') -> Tokens:
        return tokens.replace(values=self.norm.copy(name=name)(tokens.values))

    def _logits(self, x: Float[Array, 'b d'], name: str = 'logits') -> Float[Array, 'b c']:
        return Dense((self.classes,), ('embed', 'classes'), name=name)(x).astype(jnp.float32)


class MaskedMean(Classifier):
    """Linear on the mean of all real tokens; with one stream, that modality's own output O_m."""

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b c']:
        return self._logits(masked_mean(self._normed(concatenate(self.read(fused)))))


class ClassToken(Classifier):
    """Linear on the first token of one stream, by default of learned tokens `cls` (Devlin et al. 2019)."""

    streams: tuple[str, ...] = ('cls',)

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b c']:
        tokens = self._normed(self.read_one(fused, asker='class_token'))
        return self._logits(jnp.where(tokens.mask[:, :1], tokens.values[:, 0], 0))


class Pooled(Classifier):
    """Linear on what a pool makes of all tokens that are read: BERT's classifier with `TanhPool`, SigLIP's with
    `ProbePool`.
    """

    pool: Pool = field(default_factory=TanhPool)

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b c']:
        return self._logits(self.pool.copy(name='pooled')(self._normed(concatenate(self.read(fused)))))


class AttentionPool(Classifier):
    """Linear on what one learned query reads from all real tokens (Lee et al. 2019, eq. 11, one seed, no MLP)."""

    attention: Attention = field(default_factory=Attention)

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b c']:
        tokens = self._normed(concatenate(self.read(fused)))
        query = parameter(self, 'query', tokens.values.shape[-1:], ('embed',))
        return self._logits(read_by(query[None], tokens, self.attention.copy(name='attend'))[:, 0])


class LogitSum(Classifier):
    """The sum of one linear classifier a stream, on the mean of its real tokens; an absent modality adds zero.

    After a fusion without flow between the streams the model is additive in its modalities: f(a, b) = f_a(a) + f_b(b)
    (Hessel & Lee 2020, eq. 1), and no such model can answer a question that needs both at once.
    """

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b c']:
        logits = self._each(fused)
        return (logits * self._present(fused)).sum(axis=0)

    def _each(self, fused: Fused) -> Float[Array, 'm b c']:
        """Every stream's own logits, in the order of their names. Called inside a compact method."""
        return jnp.stack(
            [
                self._logits(masked_mean(self._normed(tokens, f'norm_{name}')), f'logits_{name}')
                for name, tokens in sorted(self.read(fused).items())
            ]
        )

    def _present(self, fused: Fused) -> Float[Array, 'm b 1']:
        streams = sorted(self.read(fused).items())
        return jnp.stack([tokens.present[:, None] for _, tokens in streams]).astype(jnp.float32)


class Product(Classifier):
    """Linear on the product, element by element, of what a linear map makes of the mean of each stream's real tokens:
    low-rank bilinear pooling (Kim et al. 2017, eq. 5), and ViLBERT's score of a match (Lu et al. 2019, section 2.2).

    The maps may begin as those of two contrastive towers (`Embedded`, by `InitFrom.map`), whose score is the sum of
    such products of unit vectors. Where one of the streams is absent nothing but the bias is left. width: of each.

    Raises:
        UserError: on a single stream, of which there is no product.
    """

    width: int = 128

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b c']:
        streams = sorted(self.read(fused).items())
        if len(streams) < 2:
            raise UserError(f'product: reads two streams or more, the fusion gives {[name for name, _ in streams]}')
        return self._logits(jnp.stack([self._vector(*stream) for stream in streams]).prod(axis=0))

    def _vector(self, name: str, tokens: Tokens) -> Float[Array, 'b w']:
        mean = masked_mean(self._normed(tokens, f'norm_{name}'))
        return Dense((self.width,), ('embed', 'channels'), bias=False, name=f'project_{name}')(mean)


class ProbabilityMean(LogitSum):
    """The logarithm of the mean of the probabilities that one linear classifier a stream gives (Kittler et al. 1998,
    sum rule); an absent modality has no vote, and where all are absent each class is as likely.

    Additive in the probabilities, not in the logits.
    """

    @nn.compact
    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Float[Array, 'b c']:
        logs = jax.nn.log_softmax(self._each(fused))
        present = self._present(fused)
        anything = present.any(axis=0)
        voters = jnp.where(anything, present, 1.0)
        mean = jax.nn.logsumexp(logs, axis=0, b=voters) - jnp.log(voters.sum(axis=0))
        return jnp.where(anything, mean, 0.0)
