"""What every decoder is."""

from collections.abc import Mapping
from typing import ClassVar

import flax.linen as nn
from jaxtyping import Array

from mmjax.errors import UserError, nearest
from mmjax.types import Fused, Tokens


class Decoder(nn.Module):
    """Fused tokens to one output.

    streams: the names of the modalities that it reads; (): what the fusion offers (its shared tokens, or all streams).
    packs: whether examples that share a row stay apart, as they do not where a row is pooled.
    """

    packs: ClassVar[bool] = False

    streams: tuple[str, ...] = ()

    def __call__(self, encoded: Mapping[str, Tokens], fused: Fused, *, train: bool) -> Array:
        """encoded: the encoders' own tokens, before fusion."""
        raise NotImplementedError

    def own(self, encoded: Mapping[str, Tokens], *, asker: str) -> Tokens:
        """The tokens of the encoder of the one stream that this decoder reads.

        Raises:
            UserError: in the name of `asker`, on another number of streams, or one without an encoder.
        """
        name = self._one(asker)
        if name not in encoded:
            raise UserError(f"{asker}: no encoder '{name}'{nearest(name, encoded)} (there are {sorted(encoded)})")
        return encoded[name]

    def read(self, fused: Fused) -> Mapping[str, Tokens]:
        """The tokens that this decoder reads, by name.

        Raises:
            UserError: on a stream that the fusion does not give.
        """
        if not self.streams:
            return fused.readable()
        there = {**fused.streams, **({} if fused.shared is None else {'shared': fused.shared})}
        for name in self.streams:
            if name not in there:
                raise UserError(f"decoder: no stream '{name}'{nearest(name, there)} (the fusion gives {sorted(there)})")
        return {name: there[name] for name in self.streams}

    def read_one(self, fused: Fused, *, asker: str) -> Tokens:
        """The tokens of the one stream that this decoder reads.

        Raises:
            UserError: in the name of `asker`, on another number of streams, or one that the fusion does not give.
        """
        return self.read(fused)[self._one(asker)]

    def _one(self, asker: str) -> str:
        if len(self.streams) != 1:
            raise UserError(f'{asker}: reads one stream, got {self.streams}')
        return self.streams[0]
