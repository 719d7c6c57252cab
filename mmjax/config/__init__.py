"""An experiment as data: save, load, hash, override from the command line, swap parts by name, compare."""

from mmjax.config.differences import diff
from mmjax.config.dumping import UPGRADES, Parts, config_hash, dump, load
from mmjax.config.files import load_file, load_stages
from mmjax.config.overrides import override
from mmjax.config.stages import override_stages

__all__ = [
    'UPGRADES',
    'Parts',
    'config_hash',
    'diff',
    'dump',
    'load',
    'load_file',
    'load_stages',
    'override',
    'override_stages',
]
