"""Encoders -> fusion -> decoders; nothing else."""

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Bool, Int

from mmjax.decoders.base import Decoder
from mmjax.encoders.base import Encoder
from mmjax.errors import UserError, nearest
from mmjax.fusion.base import Fusion
from mmjax.sharding import constrain
from mmjax.types import Batch, Fused, Outputs, Tokens


class Model(nn.Module):
    """O = h(g(f_1(X_1), …, f_M(X_M))).

    encoders: by the modality's key in the batch. decoders: by the name of their output. An absent modality is a mask
    (`m/present` in the batch), so that one compiled step serves every subset of them.
    """

    encoders: dict[str, Encoder]
    fusion: Fusion
    decoders: dict[str, Decoder]

    @property
    def inputs(self) -> list[str]:
        """The modalities that are read, in the order of the encoders; learned tokens are none."""
        return [name for name, encoder in self.encoders.items() if encoder.needs_input]

    def __call__(self, batch: Batch, *, train: bool = False) -> Outputs:
        """Returns each decoder's output by name.

        Raises:
            UserError: where the batch lacks the field of an encoder, or has rows of several examples that a part of the
                model would mix.
        """
        return self.answer(self.encode(batch, train=train), train=train)

    def encode(self, batch: Batch, *, train: bool = False) -> dict[str, Tokens]:
        self._check_packed(batch)
        return {name: self._encode(name, encoder, batch, train) for name, encoder in self.encoders.items()}

    def _encode(self, name: str, encoder: Encoder, batch: Batch, train: bool) -> Tokens:
        if encoder.needs_input and name not in batch:
            raise UserError(
                f"model.encoders.{name}: the batch has no field '{name}'{nearest(name, batch)} (it has "
                f'{sorted(batch)}); name it in data.source.fields'
            )
        x, present = batch.get(name), self.present(name, batch)
        if x is not None and f'{name}/segments' in batch and 'segments' not in encoder.marks:
            segments = batch[f'{name}/segments']
            apart = encoder(rearrange(x, 'b k ... -> (b k) ...'), rearrange(present, 'b k -> (b k)'), train=train)
            tokens = _in_rows(apart, segments)
        else:
            marks = {mark: batch[f'{name}/{mark}'] for mark in encoder.marks if f'{name}/{mark}' in batch}
            tokens = encoder(x, present, train=train, **marks)
        return tokens.replace(values=constrain(tokens.values, 'batch', 'length', 'embed'))

    def _check_packed(self, batch: Batch) -> None:
        packed = [name for name in self.encoders if f'{name}/segments' in batch]
        for name in packed:
            encoder = self.encoders[name]
            reads, sequence = 'segments' in encoder.marks, f'{name}/positions' in batch
            if reads != sequence:
                one, other = ('items', 'lengths') if sequence else ('lengths', 'items')
                raise UserError(
                    f'model.encoders.{name}: {type(encoder).__name__} {"keeps" if reads else "cannot keep"} '
                    f"examples apart that share a sequence; name '{name}' in packed.{one}, not packed.{other}, or "
                    'choose another encoder'
                )
        parts = {
            **{f'encoders.{name}': part for name, part in self.encoders.items()},
            'fusion': self.fusion,
            **{f'decoders.{name}': part for name, part in self.decoders.items()},
        }
        for name, part in parts.items() if packed else ():
            if not part.packs:
                raise UserError(
                    f'model.{name}: {type(part).__name__} would not keep apart the examples of a row '
                    f"('{packed[0]}/segments' says that it has several); choose one that does, such as Early and "
                    'TokenLogits, or data that are not packed'
                )

    @staticmethod
    def present(name: str, batch: Batch) -> Bool[Array, 'b'] | Bool[Array, 'b k']:
        """In which examples, or in which items of a packed row, a modality exists: `name/present`, else all."""
        b = next(iter(batch.values())).shape[0]
        return batch.get(f'{name}/present', jnp.ones(b, bool))

    def answer(self, encoded: dict[str, Tokens], *, train: bool = False) -> Outputs:
        """From what the encoders gave to the outputs."""
        return self.decode(encoded, self.fusion(encoded, train=train), train=train)

    def decode(self, encoded: dict[str, Tokens], fused: Fused, *, train: bool = False) -> Outputs:
        return {name: decoder(encoded, fused, train=train) for name, decoder in self.decoders.items()}


def _in_rows(items: Tokens, segments: Int[Array, 'b k']) -> Tokens:
    """Tokens of items that were encoded apart, back in their rows; each token has the segment of its item."""
    b, k = segments.shape
    values = rearrange(items.values, '(b k) n d -> b (k n) d', b=b)
    mask, positions = (rearrange(x, '(b k) n -> b (k n)', b=b) for x in (items.mask, items.positions))
    return Tokens.of(
        values, mask, positions=positions, segments=repeat(segments, 'b k -> b (k n)', n=mask.shape[1] // k)
    )
