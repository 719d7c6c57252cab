"""A decoder of text alone, of exactly the shape of Llama 2 7B (Touvron et al. 2023 b, section 2.2; 2023 a, table 2), to
be held against what others make of it. NOT RUN HERE: planned.

    scripts/mmjax plan experiments/scale/decoder.py:llama2_7b --topology v5p:4x4x4

6,738,415,616 parameters: 32 layers of width 4,096, 32 heads, hidden width 11,008, 32,000 words, no biases.
"""

from mmjax.data import Data
from mmjax.data.synthetic import Ids, Synthetic
from mmjax.decoders.tokens import DeferredLogits
from mmjax.encoders.text import CausalTokenEncoder
from mmjax.experiment import Experiment
from mmjax.fusion.late import Late
from mmjax.model import Model
from mmjax.nn.attention import Attention
from mmjax.nn.block import Block
from mmjax.nn.mlp import SwiGLU
from mmjax.nn.norm import NoNorm, RMSNorm
from mmjax.nn.positions import NoPositions
from mmjax.objectives.next_token import NextToken
from mmjax.optim import AdamW, WarmupCosine
from mmjax.sharding.presets import Fsdp

WORDS = 32_000


def llama2_7b() -> Experiment:
    """2 x 4,096 tokens for each of 64 devices, everything computed again in the backward pass."""
    norm = RMSNorm(epsilon=1e-5)
    attention = Attention(heads=32, bias=False, rotary=True)
    block = Block(attention=attention, mlp=SwiGLU(ratio=11_008 / 4_096), norm=norm)
    text = CausalTokenEncoder(
        vocabulary=WORDS, width=4_096, depth=32, block=block, positions=NoPositions(), remat='full'
    )
    return Experiment(
        name='llama2_7b',
        model=Model(
            {'text': text},
            Late(depth=0, entry_norm=NoNorm()),
            {'text': DeferredLogits(vocabulary=WORDS, norm=norm, bias=False, parts=2)},
        ),
        data=Data(Synthetic({'text': Ids(length=4_096, vocabulary=WORDS, prompt=1)}), cache=False),
        objectives={'text': NextToken()},
        evals={},
        optim=AdamW(schedule=WarmupCosine(peak=3e-4, warmup=2_000), b2=0.95, decay=0.1),
        steps=500_000,
        batch_size=128,
        precision='bfloat16',
        mesh=Fsdp(),
    )
