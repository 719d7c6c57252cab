"""Prefix-LMs: the tokens of an image tower, then text, each word of which reads the image and the words before it.
Shapes of PaliGemma (Beyer et al. 2024) and of decoders like Llama 3. NOT RUN HERE: planned.

    scripts/mmjax plan experiments/scale/prefix_lm.py:b3 --topology v5e:16x16
    scripts/mmjax plan experiments/scale/prefix_lm.py:b8 --topology v5p:8x8x8
    scripts/mmjax plan experiments/scale/prefix_lm.py:b8_experts --topology v5p:8x8x8
    scripts/mmjax plan experiments/scale/prefix_lm.py:b8_long --topology v5p:8x8x8
    scripts/mmjax plan experiments/scale/prefix_lm.py:b30 --topology v5p:8x8x8

Data are synthetic, of the shapes of real ones. Words and logits share no table.
"""

from mmjax.data import Data
from mmjax.data.synthetic import Ids, Pixels, Synthetic
from mmjax.decoders.tokens import DeferredLogits
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.projected import Projected
from mmjax.encoders.text import CausalTokenEncoder
from mmjax.experiment import Experiment
from mmjax.fusion.base import Layered
from mmjax.fusion.early import Early
from mmjax.fusion.experts import Experts
from mmjax.model import Model
from mmjax.nn.attention import Attention, GroupedAttention
from mmjax.nn.block import Block
from mmjax.nn.mlp import Mlp, SwiGLU
from mmjax.nn.norm import NoNorm, RMSNorm
from mmjax.nn.positions import NoPositions
from mmjax.objectives.next_token import NextToken
from mmjax.optim import AdamW, WarmupCosine
from mmjax.sharding import MeshShape
from mmjax.sharding.presets import Fsdp, LongContext


def tower(width: int, *, depth: int, hidden: int) -> PatchEncoder:
    """Patches of 14 pixels, 16 heads."""
    block = Block(attention=Attention(heads=16), mlp=Mlp(ratio=hidden / width))
    return PatchEncoder(width=width, patch=14, depth=depth, block=block, remat='full')


def prefix_lm(
    name: str,
    image_tower: PatchEncoder,
    fusion: Layered,
    *,
    width: int,
    words: int,
    image: tuple[int, int],
    length: int,
    batch_size: int,
    mesh: MeshShape,
    parts: int = 1,
) -> Experiment:
    """image: height and width in pixels. length: of the text, the first eighth of which is given. parts: of the logits;
    each of them collects their matrix from all devices that it is cut over.
    """
    text = CausalTokenEncoder(vocabulary=words, width=width, depth=0, positions=NoPositions())
    fields = {
        'image': Pixels(height=image[0], width=image[1]),
        'text': Ids(length=length, vocabulary=words, prompt=length // 8),
    }
    return Experiment(
        name=name,
        model=Model(
            {'image': Projected(image_tower, width=width), 'text': text},
            fusion,
            {'text': DeferredLogits(vocabulary=words, norm=RMSNorm(), bias=False, parts=parts)},
        ),
        data=Data(Synthetic(fields), cache=False),
        objectives={'text': NextToken()},
        evals={},
        optim=AdamW(schedule=WarmupCosine(peak=3e-4, warmup=2_000), b2=0.95, decay=0.1),
        steps=100_000,
        batch_size=batch_size,
        precision='bfloat16',
        mesh=mesh,
    )


def b3() -> Experiment:
    """3.4 billion parameters: SigLIP's So400m (Alabdulmohsin et al. 2023) at 224 pixels and the layers of Gemma 2B, as
    PaliGemma has them, but that the logits have a table of their own. 256 + 256 tokens. 1,152, the tower's width,
    divides by no more than 128 devices.
    """
    attention = GroupedAttention(heads=8, key_heads=1, head_dim=256, bias=False, rotary=True)
    block = Block(attention=attention, mlp=SwiGLU(ratio=8, activation='gelu'), norm=RMSNorm())
    return prefix_lm(
        'b3',
        tower(1152, depth=27, hidden=4304),
        Early(depth=18, block=block, remat='full', entry_norm=NoNorm()),
        width=2048,
        words=257_152,
        image=(224, 224),
        length=256,
        batch_size=2048,
        mesh=Fsdp(data=-1, fsdp=64),
        parts=4,
    )


def _b8(
    name: str, fusion: Layered, *, images: int, length: int, batch_size: int, mesh: MeshShape, parts: int = 1
) -> Experiment:
    """images: of 448 x 448 pixels, above one another."""
    return prefix_lm(
        name,
        tower(1024, depth=24, hidden=4096),
        fusion,
        width=4096,
        words=128_256,
        image=(images * 448, 448),
        length=length,
        batch_size=batch_size,
        mesh=mesh,
        parts=parts,
    )


def _layers(*, heads: int, ratio: float) -> Block:
    attention = GroupedAttention(heads=heads, key_heads=8, bias=False, rotary=True)
    return Block(attention=attention, mlp=SwiGLU(ratio=ratio), norm=RMSNorm())


LLAMA3_8B = _layers(heads=32, ratio=3.5)


def b8() -> Experiment:
    """8.3 billion parameters: the layers of Llama 3 8B behind ViT-L/14 at 448 pixels. 1,024 + 3,072 tokens."""
    fusion = Early(depth=32, block=LLAMA3_8B, remat='full', entry_norm=NoNorm())
    return _b8('b8', fusion, images=1, length=3072, batch_size=1024, mesh=Fsdp(data=-1, fsdp=32))


def b8_experts() -> Experiment:
    """The FLOPs of `b8`, and 15.3 billion parameters: the layers twice, for images and for text (Liang et al. 2024)."""
    fusion = Experts(depth=32, block=LLAMA3_8B, remat='full', entry_norm=NoNorm())
    return _b8('b8_experts', fusion, images=1, length=3072, batch_size=1024, mesh=Fsdp(data=-1, fsdp=64))


def b8_long() -> Experiment:
    """`b8` at 131,072 tokens, 16,384 of them of sixteen images; each sequence lies on 16 devices."""
    fusion = Early(depth=32, block=LLAMA3_8B, remat='full', entry_norm=NoNorm())
    return _b8('b8_long', fusion, images=16, length=114_688, batch_size=32, mesh=LongContext(sequence=16), parts=4)


def b30() -> Experiment:
    """30 billion parameters: 52 layers of width 7,168 in Yi 34B's proportions behind ViT-L/14. 1,024 + 3,072 tokens."""
    block = _layers(heads=56, ratio=20_480 / 7_168)
    return prefix_lm(
        'b30',
        tower(1024, depth=24, hidden=4096),
        Early(depth=52, block=block, remat='full', entry_norm=NoNorm()),
        width=7168,
        words=64_000,
        image=(448, 448),
        length=3072,
        batch_size=1024,
        mesh=Fsdp(data=-1, fsdp=128),
    )
