"""The full results of the bars, as they are committed."""

import json
from pathlib import Path
from typing import Any


def committed(name: str) -> dict[str, Any]:
    return json.loads((Path(__file__).parents[2] / 'experiments' / 'faults' / f'{name}.json').read_text())


def faults(found: dict[str, Any]) -> set[str]:
    """The kinds of fault of a result."""
    return {name.removesuffix('/trials') for name in found if name.endswith('/trials')}
