"""Sources, transforms, tokenizers and the loader. The only package that knows Grain and TFDS, which load on use."""

from mmjax.data.base import Data, Example, Feed, Measure, Reader, Source, Stream, Transform
from mmjax.data.bpe import Bpe
from mmjax.data.choice import AnyItem, Item
from mmjax.data.crops import CentralCrop, RandomCrop
from mmjax.data.each import Each
from mmjax.data.loader import OpenData, eval_batches, open_data, train_batches
from mmjax.data.lookup import Lookup
from mmjax.data.measure import Examples, Seconds, Tokens
from mmjax.data.mixture import Mixture
from mmjax.data.native import NativePatches
from mmjax.data.packed import Packed
from mmjax.data.prepare import data_dir
from mmjax.data.prompts import AnyLanguage, InLanguage, PromptAnswer, References
from mmjax.data.shards import Shards
from mmjax.data.synthetic import Classes, Ids, Normal, Pixels, Synthetic
from mmjax.data.tfds import Tfds
from mmjax.data.tokenizer import Bytes, Words
from mmjax.data.transforms import Absent, DropModality, Image, RandomFlip, RandomShift, Standardize

__all__ = [
    'Absent',
    'AnyItem',
    'AnyLanguage',
    'Bpe',
    'Bytes',
    'CentralCrop',
    'Classes',
    'Data',
    'DropModality',
    'Each',
    'Example',
    'Examples',
    'Feed',
    'Ids',
    'Image',
    'InLanguage',
    'Item',
    'Lookup',
    'Measure',
    'Mixture',
    'NativePatches',
    'Normal',
    'OpenData',
    'Packed',
    'Pixels',
    'PromptAnswer',
    'RandomCrop',
    'RandomFlip',
    'RandomShift',
    'Reader',
    'References',
    'Seconds',
    'Shards',
    'Source',
    'Standardize',
    'Stream',
    'Synthetic',
    'Tfds',
    'Tokens',
    'Transform',
    'Words',
    'data_dir',
    'eval_batches',
    'open_data',
    'train_batches',
]
