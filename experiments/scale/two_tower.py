"""Two towers with SigLIP's loss (Zhai et al. 2023), whose memory does not grow with the devices. NOT RUN HERE: planned.

scripts/mmjax plan experiments/scale/two_tower.py:b0_4 --topology v5e:8x8
scripts/mmjax plan experiments/scale/two_tower.py:b1_4 --topology v5e:16x16
"""

from mmjax.data import Data
from mmjax.data.synthetic import Ids, Pixels, Synthetic
from mmjax.decoders.embedding import Embedded, PooledVector, Temperature
from mmjax.encoders.image import PatchEncoder
from mmjax.encoders.text import TokenEncoder
from mmjax.experiment import Experiment
from mmjax.fusion.late import Late
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.mlp import Mlp
from mmjax.nn.norm import NoNorm
from mmjax.nn.pool import LastPool, ProbePool
from mmjax.objectives.contrastive import ContrastiveSigmoid
from mmjax.optim import AdamW, WarmupCosine
from mmjax.sharding.presets import Fsdp

WORDS, LENGTH = 32_000, 64


def two_tower(name: str, image: PatchEncoder, text: TokenEncoder, *, pixels: int, batch_size: int) -> Experiment:
    fields = {'image': Pixels(width=pixels), 'text': Ids(length=LENGTH, vocabulary=WORDS)}
    return Experiment(
        name=name,
        model=Model(
            {'image': image, 'text': text},
            Late(depth=0, entry_norm=NoNorm()),
            {
                'image': PooledVector(streams=('image',), pool=ProbePool()),
                'text': Embedded(streams=('text',), width=image.width, pool=LastPool(), bias=True),
                'temperature': Temperature(scale=10.0, bias=-10.0),
            },
        ),
        data=Data(Synthetic(fields), cache=False),
        objectives={'pairs': ContrastiveSigmoid(outputs=('image', 'text'))},
        evals={},
        optim=AdamW(schedule=WarmupCosine(peak=1e-3, warmup=10_000), b2=0.95),
        steps=300_000,
        batch_size=batch_size,
        precision='bfloat16',
        mesh=Fsdp(data=-1, fsdp=64),
    )


def tower(width: int, *, depth: int, heads: int, hidden: int, patch: int = 0) -> PatchEncoder | TokenEncoder:
    """Of images where there is a patch, else of text."""
    block = Block(attention=Attention(heads=heads), mlp=Mlp(ratio=hidden / width))
    if patch:
        return PatchEncoder(width=width, patch=patch, depth=depth, block=block, remat='full')
    return TokenEncoder(vocabulary=WORDS, width=width, depth=depth, block=block, remat='full')


def b0_4() -> Experiment:
    """0.4 billion parameters: ViT-L/16 at 256 pixels and 12 layers of text."""
    image = tower(1024, depth=24, heads=16, hidden=4096, patch=16)
    text = tower(768, depth=12, heads=12, hidden=3072)
    return two_tower('b0_4', image, text, pixels=256, batch_size=32_768)  # pyright: ignore


def b1_4() -> Experiment:
    """1.4 billion parameters: ViT-g/14 at 224 pixels (Zhai et al. 2022, table 2) and 24 layers of text."""
    image = tower(1408, depth=40, heads=16, hidden=6144, patch=14)
    text = tower(1024, depth=24, heads=16, hidden=4096)
    return two_tower('b1_4', image, text, pixels=224, batch_size=32_768)  # pyright: ignore
