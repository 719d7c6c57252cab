"""FLOPs of the matrix products in a compiled program, from shapes and dimension numbers, inside fusions too."""

import math
import re

import numpy as np

from mmjax.plan.hlo import FUSIONS, Array, Computation, Instruction, Module, leaves


def product_flops(module: Module, computation: Computation, instruction: Instruction) -> int:
    """2 x the multiply-adds of the products and convolutions that one run of an instruction does; 0 of all others.

    Of a convolution those with the padding, and with the holes of a dilated input, are none: the TPU compiler writes
    batched products as such convolutions. GPU's calls of cuBLAS count, cuDNN's convolutions do not.
    """
    opcode = instruction.opcode
    if opcode in FUSIONS:
        inner = module.computations[instruction.called('calls')[0]]
        return sum(product_flops(module, inner, part) for part in inner)
    if opcode == 'dot':
        return _dot(computation, instruction, instruction.numbers('lhs_contracting_dims'))
    if opcode == 'convolution':
        return _convolution(computation, instruction)
    if opcode == 'custom-call' and (instruction.attribute('custom_call_target') or '').startswith('__cublas$'):
        numbers = instruction.backend_config.get('gemm_backend_config', {}).get('dot_dimension_numbers', {})
        contracted = tuple(int(axis) for axis in numbers.get('lhs_contracting_dimensions', ()))
        return _dot(computation, instruction, contracted)
    return 0


def _dims(computation: Computation, name: str) -> tuple[int, ...]:
    shape = computation.instructions[name].shape
    assert isinstance(shape, Array), f'{name} is a tuple'
    return shape.dims


def _dot(computation: Computation, instruction: Instruction, contracted: tuple[int, ...]) -> int:
    left, out = _dims(computation, instruction.operands[0]), next(leaves(instruction.shape))  # then GPU's work space
    return 2 * math.prod(out.dims) * math.prod(left[axis] for axis in contracted)


def _convolution(computation: Computation, instruction: Instruction) -> int:
    image, kernel = (_dims(computation, name) for name in instruction.operands[:2])
    out, window = next(leaves(instruction.shape)).dims, _window(instruction)
    at_image, at_kernel, at_out = re.split('_|->', instruction.attribute('dim_labels') or '')
    groups = int(instruction.attribute('batch_group_count') or 1)
    total = 2 * image[at_image.index('b')] // groups * kernel[at_kernel.index('i')] * kernel[at_kernel.index('o')]
    for i, label in enumerate(str(digit) for digit in range(len(image) - 2)):
        size, taps = image[at_image.index(label)], kernel[at_kernel.index(label)]
        stride, (low, _), spread, dilation = (window[key][i] for key in ('stride', 'pad', 'lhs_dilate', 'rhs_dilate'))
        starts = np.arange(out[at_out.index(label)]) * stride - low
        places = starts[:, None] + np.arange(taps) * dilation
        total *= int(((places >= 0) & (places <= (size - 1) * spread) & (places % spread == 0)).sum())
    return total


def _window(instruction: Instruction) -> dict[str, list]:
    """The settings of a window, one a spatial axis; `pad` in pairs."""
    axes = len(re.split('_', instruction.attribute('dim_labels') or '')[0]) - 2
    found = dict(part.split('=') for part in (instruction.attribute('window') or '').split())
    pads = found.get('pad', 'x'.join(['0_0'] * axes)).split('x')
    sizes = {
        key: [int(digits) for digits in found.get(key, 'x'.join('1' * axes)).split('x')] if axes else []
        for key in ('stride', 'lhs_dilate', 'rhs_dilate')
    }
    return sizes | {'pad': [tuple(int(digits) for digits in pad.split('_')) for pad in pads] if axes else []}
