"""Decoders in the shapes and on the slices for which MaxText publishes measured throughput, to hold the planner's
estimates against it (`scripts/calibrate_plan`). NOT RUN HERE: planned.

    scripts/mmjax plan experiments/scale/published.py:llama2_70b --topology v5p:8x8x8
    scripts/mmjax plan experiments/scale/published.py:llama3_8b --topology v6e:16x16
    scripts/mmjax plan experiments/scale/published.py:llama2_70b_host --topology v6e:16x16

Measured: MaxText's documentation, reference/models/tiering (model, chips, length, MFU, tokens a second and device).
Batch and what is recomputed: its benchmarks/maxtext_v5p_model_configs.py and maxtext_trillium_model_configs.py; the
policies here that come nearest stand below. Shapes: Touvron et al. 2023 b; Grattafiori et al. 2024, table 3.
"""

from mmjax.data import Data
from mmjax.data.synthetic import Ids, Synthetic
from mmjax.decoders.tokens import DeferredLogits
from mmjax.encoders.text import CausalTokenEncoder
from mmjax.experiment import Experiment
from mmjax.fusion.late import Late
from mmjax.model import Model
from mmjax.nn.attention import GroupedAttention
from mmjax.nn.block import Block
from mmjax.nn.mlp import SwiGLU
from mmjax.nn.norm import NoNorm, RMSNorm
from mmjax.nn.positions import NoPositions
from mmjax.objectives.next_token import NextToken
from mmjax.optim import AdamW, WarmupCosine
from mmjax.sharding.presets import Fsdp


def decoder(
    name: str,
    *,
    width: int,
    depth: int,
    heads: int,
    hidden: int,
    words: int,
    length: int,
    batch_size: int,
    remat: str,
) -> Experiment:
    """Of text alone; eight heads of keys and values, no biases."""
    norm = RMSNorm(epsilon=1e-5)
    attention = GroupedAttention(heads=heads, key_heads=8, bias=False, rotary=True)
    block = Block(attention=attention, mlp=SwiGLU(ratio=hidden / width), norm=norm)
    text = CausalTokenEncoder(
        vocabulary=words, width=width, depth=depth, block=block, positions=NoPositions(), remat=remat
    )
    return Experiment(
        name=name,
        model=Model(
            {'text': text},
            Late(depth=0, entry_norm=NoNorm()),
            {'text': DeferredLogits(vocabulary=words, norm=norm, bias=False)},
        ),
        data=Data(Synthetic({'text': Ids(length=length, vocabulary=words, prompt=1)}), cache=False),
        objectives={'text': NextToken()},
        evals={},
        optim=AdamW(schedule=WarmupCosine(peak=1.5e-4, warmup=2_000), b2=0.95, decay=0.1),
        steps=100_000,
        batch_size=batch_size,
        precision='bfloat16',
        mesh=Fsdp(),
    )


def _llama2_70b(name: str, *, batch_size: int, remat: str) -> Experiment:
    return decoder(
        name,
        width=8192,
        depth=80,
        heads=64,
        hidden=28_672,
        words=32_000,
        length=4096,
        batch_size=batch_size,
        remat=remat,
    )


def llama2_70b() -> Experiment:
    """4 x 4,096 tokens for each of 512 chips of v5p. Published, `save_dot_except_mlpwi`: all products are kept but the
    first two of the MLP. Here `attention`, which makes those of queries, keys and values and behind the attention
    again too: 0.15 of the 0.86 billion multiply-adds of a layer and token.
    """
    return _llama2_70b('llama2_70b', batch_size=2048, remat='attention')


def llama2_70b_host() -> Experiment:
    """2 x 4,096 tokens for each of 256 chips of v6e. Published: queries, keys and values lie on the host. Here
    `offload`, which has what attention gave there too.
    """
    return _llama2_70b('llama2_70b_host', batch_size=512, remat='offload')


def llama3_8b() -> Experiment:
    """4 x 8,192 tokens for each of 256 chips of v6e. Published: a layer's input, queries, keys, values and what follows
    attention lie on the host. Here `offload`, which leaves the input on the device.
    """
    return decoder(
        'llama3_8b',
        width=4096,
        depth=32,
        heads=32,
        hidden=14_336,
        words=128_256,
        length=8192,
        batch_size=1024,
        remat='offload',
    )
