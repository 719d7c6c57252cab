"""What every fusion design is."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from typing import Any, ClassVar

import flax.linen as nn

from mmjax.errors import UserError, nearest
from mmjax.fusion.cost import Cost, cost_of
from mmjax.nn.block import Block, PostNormBlock, repeat
from mmjax.nn.norm import LayerNorm, Norm
from mmjax.types import Fused, Order, Tokens, concatenate

# (reader, read): the first of the fusion's layers, counted from 0, in which the reader's stream reads the other's.
# A pair that is missing never reads. `shared` is a reader of its own where the design gives shared tokens.
Flow = dict[tuple[str, str], int]


class Fusion(nn.Module):
    """Lets the tokens of all modalities read one another. Contract (tests/fusion/test_contract.py):

    padded tokens, absent modalities and the dict's order change nothing; examples do not see one another; what reads
    what is what `flow` says. `entry_norm` normalises each modality on entry, so that none starves another by its scale.
    """

    abstract: ClassVar[bool] = True  # of a class that says so itself, not of those derived from it: no part of its own
    modalities: ClassVar[int | None] = None  # how many the design admits; None: any number
    one_width: ClassVar[bool] = True  # whether tokens of all modalities meet, so that they must be equally wide
    packs: ClassVar[bool] = False  # whether examples that share a row stay apart: what pools a row cannot promise that
    # Whether a token of a causal stream depends on no later one, and one more can be added to those before it: all that
    # crosses between tokens is attention of the kind that remembers (`nn/cache.py`). tests/generate/test_steps.py
    causal: ClassVar[bool] = False

    entry_norm: Norm = field(default_factory=LayerNorm)

    def __call__(self, mods: Mapping[str, Tokens], *, train: bool) -> Fused:
        raise NotImplementedError

    def flow(self, modalities: Sequence[str]) -> Flow:
        """Who reads whom, from which layer."""
        raise NotImplementedError

    def cost(self, lengths: Mapping[str, int], *, width: int, batch: int = 1) -> Cost:
        """Parameters, multiply-adds and kept activations for `lengths[m]` tokens of `width` numbers a modality."""
        return cost_of(self, lengths, width=width, batch=batch)

    def enter(self, mods: Mapping[str, Tokens]) -> dict[str, Tokens]:
        """The modalities in the order of their names, each normalised by parameters of its own.

        Raises:
            UserError: where there is none, not as many as the design admits, or their widths differ and must not.
        """
        self.check_modalities(mods)
        widths = {name: x.values.shape[-1] for name, x in mods.items()}
        if self.one_width and len(set(widths.values())) > 1:
            raise UserError(
                f'fusion: the encoders give tokens of different widths, {widths}; set their `width` to one value'
            )
        return {
            name: mods[name].replace(values=self.entry_norm.copy(name=f'norm_{name}')(mods[name].values))
            for name in sorted(mods)
        }

    def check_modalities(self, names: Collection[str]) -> None:
        """Raises UserError where there is no modality, or not as many as the design admits."""
        if not names:
            raise UserError('fusion: the model has no encoder; give it at least one')
        if self.modalities not in (None, len(names)):
            what, told = type(self).__name__, ', '.join(sorted(names))
            raise UserError(f'fusion: {what} admits {self.modalities} modalities, the model has {len(names)} ({told})')

    @staticmethod
    def reader_of(mods: Mapping[str, Tokens], reader: str) -> str:
        """The name of the one stream that reads the others; raises UserError where the model has no such modality."""
        if reader not in mods:
            raise UserError(f"fusion.reader: no modality '{reader}'{nearest(reader, mods)} (there are {sorted(mods)})")
        return reader


class Layered(Fusion):
    """Base of designs that are `depth` layers made of `block`, in which everyone reads everyone, unless they say else.

    remat, unroll: see `Stack`.
    """

    abstract: ClassVar[bool] = True

    depth: int = 4
    block: Block = field(default_factory=Block)
    remat: str = 'none'
    unroll: int = 1

    def repeated(self, layer: nn.Module, carry: Any, *, train: bool) -> Any:
        """`layer(carry)`, `depth` times."""
        return repeat(layer, carry, depth=self.depth, train=train, remat=self.remat, unroll=self.unroll)

    def flow(self, modalities: Sequence[str]) -> Flow:
        return everyone(modalities) if self.depth else {}

    def check_pre_norm(self) -> None:
        """Raises UserError on a block of another kind, where a design takes its parts and not the block."""
        if isinstance(self.block, PostNormBlock):
            raise UserError('fusion.block: these layers are pre-norm; take a block of that kind, or another design')


def join(mods: Mapping[str, Tokens]) -> Tokens:
    """The streams along the length as keys: `cumsum(causal)` starts again with each, as it does in a query's stream.

        text   1 1 1   video   0 0         cumsum(causal)   1 2 3   0 0   and not   1 2 3   3 3

    So each text token reads itself, the text before it and the whole video, which reads no text, whatever the order of
    their names; two causal streams go in step. In a packed row the counts start again with each example too.
    """
    parts, before, flat = {}, 0, True
    for name, x in mods.items():
        order = x.order if flat else Order.UNKNOWN  # behind one whose count has risen it falls
        parts[name] = x.replace(causal=x.causal.at[:, :1].add(-before), order=order)
        before, flat = x.causal.sum(axis=1, keepdims=True), flat and x.order is Order.FLAT
    return concatenate(parts)


def everyone(modalities: Sequence[str], *, start: int = 0) -> Flow:
    """The flow in which every modality reads every other from layer `start` on."""
    return {(a, b): start for a in modalities for b in modalities if a != b}
