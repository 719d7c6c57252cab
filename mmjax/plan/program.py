"""The train step of an experiment as the compiler makes it for a mesh: its memory and its text, without running it."""

import re
import time
from dataclasses import dataclass
from typing import Any

import jax

from mmjax.errors import UserError
from mmjax.experiment import Experiment
from mmjax.sharding import placed_batch
from mmjax.train.guarded import step_program
from mmjax.train.state import TrainState
from mmjax.types import Shapes

GIB = 2**30

# What the compiler says instead of a program (xla's error 1000): (23.36G) needed, (15.75G) there; G is GiB, M is MiB.
_SIZE = r'\(\s*([\d.]+)\s*([KMGT]?)(?:i?B)?\s*\)'
_OUT_OF_MEMORY = re.compile(f'RESOURCE_EXHAUSTED.*?{_SIZE}.*?{_SIZE}', re.DOTALL)
_UNITS = {'': 1, 'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}


@dataclass(frozen=True)
class Compiled:
    """A program of one device. Bytes, as the compiler has laid them out; seconds it took; its text.

    argument: of state and batch. output: of what it returns, of which `alias` lies where arguments did. temp: of the
    block in which all the rest gets its places, gaps between them included. peak: arguments and the most of that block
    that is in use at a time, as the compiler states it; None where it does not. host: arguments and temporaries in the
    memory of the host.
    """

    argument: int
    output: int
    alias: int
    temp: int
    peak: int | None
    host: int
    seconds: float
    text: str

    @property
    def held(self) -> int:
        """Bytes of a device's memory that the program takes: what the compiler holds against the limit."""
        return self.argument + self.output - self.alias + self.temp

    @property
    def most(self) -> int:
        """Of these, in use at a time: the peak, and all where none is told. Where buffers lie on the host the compiler
        states the peak of that memory if it is the higher one, which says nothing of the device's.
        """
        return self.held if self.peak is None else min(self.peak, self.held)


@dataclass(frozen=True)
class OutOfMemory:
    """The compiler refuses: bytes that a device would need, and those that it has."""

    need: int
    limit: int
    seconds: float

    @property
    def missing(self) -> int:
        return self.need - self.limit


def step_for(
    experiment: Experiment, *, state: TrainState, batch: Shapes, mesh: jax.sharding.Mesh
) -> jax.stages.Lowered:
    """The train step as training compiles it, lowered for the devices of a mesh, which need not be here.

    state: as `abstract_state` gives it for the mesh. batch: shapes of a global batch.
    """
    with jax.set_mesh(mesh):
        return step_program(experiment, state).lower(state, placed_batch(batch, mesh))


def compile_step(lowered: jax.stages.Lowered, *, quick: bool = False) -> Compiled | OutOfMemory:
    """Compiles what `step_for` gives.

    quick: at the lowest level of optimisation, several times faster; memory comes out much the same, but the cycles of
    its text say nothing about time.

    Raises:
        UserError: where the compiler lacks something that the program needs.
    """
    started = time.perf_counter()
    try:
        # Not by jax.config: `lowered` keeps what it compiled without options, and would hand it out at any level.
        compiled = lowered.compile(compiler_options={'optimization_level': 'O1'} if quick else None)
    except jax.errors.JaxRuntimeError as error:
        refused = out_of_memory(str(error), seconds=time.perf_counter() - started)
        if refused is not None:
            return refused
        if str(error).startswith('UNIMPLEMENTED'):
            line = str(error).splitlines()[0]
            raise UserError(
                f'plan: the compiler cannot make this program ({line}); try another mesh or topology'
            ) from error
        raise
    seconds = time.perf_counter() - started
    memory: Any = compiled.memory_analysis()
    if memory is None:
        raise UserError('plan: the compiler of this platform tells nothing of memory')
    host = ('host_argument_size_in_bytes', 'host_temp_size_in_bytes', 'host_output_size_in_bytes')
    on_host = sum(getattr(memory, name, 0) for name in host) - getattr(memory, 'host_alias_size_in_bytes', 0)
    return Compiled(
        argument=memory.argument_size_in_bytes,
        output=memory.output_size_in_bytes,
        alias=memory.alias_size_in_bytes,
        temp=memory.temp_size_in_bytes,
        peak=getattr(memory, 'peak_memory_in_bytes', 0) or None,
        host=on_host,
        seconds=seconds,
        text=compiled.as_text() or '',
    )


def out_of_memory(message: str, *, seconds: float = 0.0) -> OutOfMemory | None:
    """Reads what the compiler says where a program does not fit; None where it says something else.

    … total memory required for HLO temporaries (23.36G) exceeds available HBM (15.75G) …   ->   7.61 GiB too much
    """
    found = _OUT_OF_MEMORY.search(message)
    if not found:
        return None
    need, limit = (round(float(found[i]) * _UNITS[found[i + 1]]) for i in (1, 3))
    return OutOfMemory(need, limit, seconds)
