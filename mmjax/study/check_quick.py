"""`scripts/check_studies`: the `--quick` form of every study of experiments/, to its report, each in ten minutes."""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmjax.train.files import read_json, write_json
from mmjax.train.manifest import code_version

EXPERIMENTS, RESULT = Path('experiments'), Path('experiments', 'bench', 'quick.json')
LIMIT = 600  # seconds


def check(file: Path, directory: Path) -> dict[str, Any]:
    """Runs one; tells its time and whether each of its arms got a score and a place in the report."""
    started = time.monotonic()
    command = [sys.executable, '-m', 'mmjax.cli', 'study', str(file), '--quick', '--workdir', str(directory)]
    finished = subprocess.run(command, capture_output=True, text=True)
    seconds = round(time.monotonic() - started)
    if finished.returncode:
        print(finished.stderr[-2000:], file=sys.stderr)
        return {'seconds': seconds, 'ok': False}
    regimes, page = read_json(directory / 'results.json')['regimes'], (directory / 'report.html').read_text()
    arms = {arm: 'score' in entry and arm in page for entries in regimes.values() for arm, entry in entries.items()}
    return {'seconds': seconds, 'arms': list(arms), 'ok': all(arms.values()) and seconds <= LIMIT}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog='scripts/check_studies', description=__doc__)
    names = sorted(file.stem for file in EXPERIMENTS.glob('*.py') if 'def study()' in file.read_text())
    parser.add_argument('names', nargs='*', metavar='NAME', help=f'of {names} (default: all)')
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.names) - set(names)):
        parser.error(f'no study {unknown[0]} (there are {names})')
    told = read_json(RESULT) if RESULT.exists() else {}
    for name in args.names or names:
        with tempfile.TemporaryDirectory() as directory:
            told[name] = check(EXPERIMENTS / f'{name}.py', Path(directory)) | {'commit': code_version()['commit']}
        print(f'{name}: {told[name]}', flush=True)
        RESULT.parent.mkdir(exist_ok=True)
        write_json(RESULT, told)  # as it goes
    return 0 if all(told[name]['ok'] for name in args.names or names) else 1


if __name__ == '__main__':
    sys.exit(main())
