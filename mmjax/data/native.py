"""Images at their own aspect ratio, as patches."""

import math
from dataclasses import dataclass

import numpy as np
import PIL.Image
from einops import rearrange

from mmjax.data.base import Example, Transform
from mmjax.data.transforms import decode
from mmjax.errors import UserError


@dataclass(frozen=True)
class NativePatches(Transform):
    """An image as at most `most` patches of its own grid, whatever its shape: NaViT (Dehghani et al. 2023), NaFlex in
    SigLIP 2 (Tschannen et al. 2025).

    PNG or JPEG bytes, or uint8 [h, w] or [h, w, c], to `{key}` uint8 [most, patch * patch * channels], rows of pixels
    within a patch first; the rest is zeros. `{key}/yx` int32 [most, 2]: row and column of each patch; `{key}/grid`
    int32 [most, 2]: how many there are of each in its image; `{key}/mask` [most]: which are real; `{key}/present`.

    An image that is too large is scaled down, keeping its aspect ratio as far as whole patches do (`grid_of`); none is
    enlarged but to a single patch. One shape for all images: one compiled step. An absent image (None) has no patch.
    Raises UserError as `Image` does.
    """

    key: str = 'image'
    patch: int = 16
    most: int = 256
    channels: int = 3

    def __post_init__(self):
        if self.channels not in (1, 3):
            raise UserError(f'NativePatches.channels is {self.channels}: use 1 (grey) or 3 (RGB)')
        if self.patch < 1 or self.most < 1:
            raise UserError(f'NativePatches.patch is {self.patch}, most is {self.most}: use positive numbers')

    def __call__(self, example: Example, rng: np.random.Generator | None = None) -> Example:
        key, value = self.key, example[self.key]
        pixels = np.zeros((self.most, self.patch**2 * self.channels), np.uint8)
        yx, grid = np.zeros((self.most, 2), np.int32), np.ones((self.most, 2), np.int32)
        count = 0
        if value is not None:
            image = decode(value, key=key, asker='NativePatches').convert('L' if self.channels == 1 else 'RGB')
            rows, columns = grid_of(image.height, image.width, patch=self.patch, most=self.most)
            size = (columns * self.patch, rows * self.patch)
            if image.size != size:
                image = image.resize(size, PIL.Image.Resampling.BICUBIC)
            count = rows * columns
            array = np.asarray(image).reshape(size[1], size[0], self.channels)
            pixels[:count] = rearrange(array, '(y p) (x q) c -> (y x) (p q c)', p=self.patch, q=self.patch)
            yx[:count] = np.stack(np.unravel_index(np.arange(count), (rows, columns)), axis=1)
            grid[:count] = rows, columns
        mask = np.arange(self.most) < count
        return {
            key: pixels,
            f'{key}/yx': yx,
            f'{key}/grid': grid,
            f'{key}/mask': mask,
            f'{key}/present': np.bool_(value is not None),
        }


def grid_of(height: int, width: int, *, patch: int, most: int) -> tuple[int, int]:
    """Rows and columns of patches: as many as fit into the image, or into it scaled down so that `most` are enough.

    Lee et al. 2023 (Pix2Struct), section 2: sides in proportion to the image's, cut to whole patches.
    """
    rows = min(height // patch, math.isqrt(most * height // width))
    columns = min(width // patch, math.isqrt(most * width // height))
    rows = min(max(rows, 1), most)
    return rows, min(max(columns, 1), most // rows)
