"""A machine of which we know every program: fake Pythons that say what they are asked, the tools of POSIX, no more.

A fake `-m venv` makes an environment out of copies of itself, so a set-up takes a moment and needs no network.
"""

import shutil
import signal
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ('bash', 'cat', 'chmod', 'cp', 'date', 'dirname', 'env', 'grep', 'head', 'ls', 'mkdir', 'mv', 'rm', 'rmdir')
TOOLS += ('sleep', 'tail', 'touch', 'wc')

PYTHON = """#!/usr/bin/env bash
# a fake Python: what the launcher asks of one, and a line in calls.txt for each thing that it made
case "$*" in
  *version_info*) printf '{version}' ;;
  *'import venv, ensurepip') exit {venv} ;;
  *'-m venv '*)
    venv=${{!#}}
    echo "venv {version}" >>"$CALLS"
    mkdir -p "$venv/bin" && cp "$0" "$venv/bin/python"
    printf 'home = /x\\nversion = {version}\\n' >"$venv/pyvenv.cfg" ;;
  *'-m pip install'*)
    printf '%s\\n' '#!/usr/bin/env bash' 'echo "uv $*" >>"$CALLS"; sleep "${{SLOW:-0}}"; touch "${{0%/*}}/whole"' \\
      >"${{0%/*}}/uv"
    chmod +x "${{0%/*}}/uv" ;;
  *'-m pytest'*) echo "pytest {version} $*" >>"$CALLS" ;;
  *'-m mmjax.cli'*) echo "{version} in $PWD: $*" ;;
esac
"""


class Clone:
    """A clone of the repository's scripts, and a machine of which we know every program."""

    def __init__(self, directory: Path):
        self.root, self.path, self.calls = directory / 'clone', directory / 'bin', directory / 'calls.txt'
        self.venv = self.root / '.venv'
        shutil.copytree(ROOT / 'scripts', self.root / 'scripts')
        shutil.copy(ROOT / 'pyproject.toml', self.root)
        (self.root / 'requirements.txt').write_text('uv==0.9.0\n')
        self.path.mkdir()
        for tool in TOOLS:
            (self.path / tool).symlink_to(str(shutil.which(tool)))
        self.calls.touch()

    def add(self, name: str, text: str) -> None:
        program = self.path / name
        program.parent.mkdir(exist_ok=True)
        program.unlink(missing_ok=True)  # it may be a link to a program of the machine, which nobody must write through
        program.write_text(text)
        program.chmod(0o755)

    def add_python(self, version: str, *, name: str = '', venv: bool = True) -> None:
        self.add(name or f'python{version.rsplit(".", 1)[0]}', PYTHON.format(version=version, venv=0 if venv else 1))

    def start(self, *args: str, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.root / 'scripts' / args[0], *args[1:]],
            cwd=cwd or self.root,
            env={'PATH': str(self.path), 'HOME': str(self.path), 'CALLS': str(self.calls), **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell in the background ignores SIGINT, and bash cannot trap a signal that it inherits ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *args: str, cwd: Path | None = None, **env: str) -> tuple[int, str, list[str]]:
        """Returns the exit code, standard output and the lines of standard error."""
        process = self.start(*args, cwd=cwd, **env)
        out, err = process.communicate(timeout=25)
        return process.returncode, out, err.splitlines()

    def made(self, what: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.startswith(what)]
