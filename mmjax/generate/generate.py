"""Texts that a model writes: the predictor of captions and answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from mmjax.errors import UserError, nearest
from mmjax.generate.base import Predictor
from mmjax.generate.search import Greedy, Search
from mmjax.generate.steps import begin, check_writes
from mmjax.model import Model
from mmjax.types import Batch, Outputs


@dataclass(frozen=True)
class Generate(Predictor):
    """What the model writes after the prompt of each row; an answer that the row holds is not looked at.

    end: the id that ends a text, as the data write it (`PromptAnswer.end`). length: the most tokens of prompt and text
    together, the end token among them. stream: the modality that is written. output: the decoder of its logits, such
    as `TokenLogits`, and the name of the ids [b length - 1] that come out, with `OUTPUT/score` [b] beside them. search:
    how the text is chosen. seed: of its draws, which belong to the example, not to its place in a batch.
    """

    end: int
    length: int
    stream: str = 'text'
    output: str = 'text'
    search: Search = field(default_factory=Greedy)
    seed: int = 0

    def __post_init__(self):
        if self.length < 2 or self.end < 1:
            raise UserError(f'generate: length {self.length} must be at least 2, end {self.end} at least 1')

    @property
    def texts(self) -> Mapping[str, str]:
        return {self.output: self.stream}

    def check(self, model: Model) -> None:
        check_writes(model, stream=self.stream, asker='generate')
        decoders = model.decoders
        if self.output not in decoders:
            there = sorted(decoders)
            raise UserError(f"generate.output: no decoder '{self.output}'{nearest(self.output, there)} ({there})")
        if (ids := getattr(decoders[self.output], 'vocabulary', None)) is None:
            raise UserError(
                f'generate.output: decoder {self.output} gives no logits of tokens; take one of token_logits'
            )
        if self.end >= ids:
            raise UserError(f'generate.end: {self.end} is none of the {ids} ids of decoder {self.output}')

    def __call__(self, model: Model, params: Any, batch: Batch) -> Outputs:
        self.check(model)
        room = self.length - 1
        self._check_length(model, params, batch)
        begun = begin(model, params, batch, stream=self.stream, output=self.output, length=self.length)
        b = begun.prompt.shape[0]
        limits = jnp.where(begun.prompt > 0, jnp.maximum(self.length - begun.prompt, 0), 0)
        index = batch.get('index', jnp.arange(b))
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(self.seed), i))(index)
        ids, score = self.search(
            begun.logits, begun.place, begun.writer, limits=limits, length=room, end=self.end, keys=keys
        )
        return {self.output: ids, f'{self.output}/score': score}

    def _check_length(self, model: Model, params: Any, batch: Batch) -> None:
        """Raises UserError where the model has fewer learned positions than a text may have tokens."""
        shape = (len(batch[self.stream]), self.length)
        text = {self.stream: jnp.zeros(shape, jnp.int32)}

        def encode(model: Model) -> Any:
            there = jnp.ones(shape[0], bool)
            return model.encoders[self.stream](text[self.stream], there, train=False).mask

        jax.eval_shape(lambda params: model.apply({'params': params}, method=encode), params)
