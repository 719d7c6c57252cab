"""One encoder for several modalities."""

from jaxtyping import Array, Bool

from mmjax.encoders.base import Encoder
from mmjax.errors import UserError
from mmjax.types import Tokens


class Tied(Encoder):
    """The encoder of the modality `to`, with its very parameters: two photographs of a question (NLVR2), a drawing and
    another view of it (SimCLR), each a modality of its own for all that follows.

    The model calls the other encoder in its place; by itself it encodes nothing.
    """

    to: str

    def __call__(self, x: Array, present: Bool[Array, 'b'], *, train: bool) -> Tokens:
        raise UserError(
            f"Tied(to='{self.to}') has no parameters of its own; it stands in Model.encoders, not in a part"
        )
