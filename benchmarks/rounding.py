"""Other arithmetic than a network's own: float64 throughout, and TF32 on machines that have none.

TF32 is a mode of CUDA devices; on a CPU it is imitated, by rounding the factors of all matrix products and convolutions
to 10 bits after the leading one.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from embedstore import models
from embedstore.models import causal
from embedstore.models.precision import arithmetic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
PRODUCTS = {
    functional.linear,
    functional.conv1d,
    functional.conv2d,
    torch.matmul,
    torch.bmm,
    torch.einsum,
    torch.Tensor.matmul,
    torch.Tensor.__matmul__,
    torch.Tensor.__rmatmul__,
}


def golden_checkpoints() -> list[Path]:
    """Return the folders of the small checkpoints of tests/golden."""
    return sorted(path.parent for path in GOLDEN.glob("*/model.safetensors") if (path.parent / "cases.json").exists())


def reader(
    folder: Path, device: str, precision: str
) -> tuple[models.Model, Callable[[np.ndarray], list[tuple[np.ndarray, np.ndarray]]]]:
    """Load a checkpoint; return the model and a function from letters to rows and spans of each piece.

    Precisions are those of `embedstore.models.load`, TF32 on any device, and ``"float64"``.
    """
    imitated = precision == "float64" or (precision == "tf32" and device == "cpu")
    model = models.load(folder, device=device, precision="float32" if imitated else precision)
    if precision == "float64":
        model._network.double()  # noqa: SLF001

    def run(ids: torch.Tensor) -> torch.Tensor:
        if not imitated:
            return model.hidden(ids)
        if precision == "float64":
            with torch.inference_mode(), Float64():
                return model._network(ids, model.layer, None)  # noqa: SLF001
        with mock.patch.object(causal, "arithmetic", ImitatedTF32.exact), ImitatedTF32():
            return model.hidden(ids)

    def read(codes: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        for piece in model.pieces(codes):
            hidden = run(torch.from_numpy(piece.ids)[None].to(model.device))[0, piece.first :]
            found.append((hidden[: len(piece.span)].cpu().numpy(), piece.span))
        return found

    return model, read


class Float64(TorchFunctionMode):
    """Does in float64 what a network would do in float32 whatever its parameters are; refuses any float32 left."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        def wide(value: Any) -> Any:
            return torch.float64 if value is torch.float32 else value

        function = torch.Tensor.double if function is torch.Tensor.float else function
        found = function(*map(wide, args), **{name: wide(value) for name, value in (kwargs or {}).items()})
        if isinstance(found, torch.Tensor) and found.dtype == torch.float32:
            raise TypeError(f"{function} gave float32 in a network that was to compute in float64.")
        return found


class ImitatedTF32(TorchFunctionMode):
    """Rounds the factors of matrix products and convolutions to TF32."""

    rounds = True

    @classmethod
    @contextmanager
    def exact(cls, *_: Any) -> Iterator[None]:
        """Do not round: what a network does in full float32 whatever the precision."""
        cls.rounds = False
        with arithmetic("float32", torch.device("cpu")):
            yield
        cls.rounds = True

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.rounds:
            return function(*args, **kwargs)
        if function is functional.scaled_dot_product_attention:
            return attention(*args, **kwargs)
        if function in PRODUCTS:
            args = tuple(rounded(value) for value in args)
        elif function is torch.lstm:
            args = (rounded(args[0]), args[1], [rounded(value) for value in args[2]], *args[3:])
        return function(*args, **kwargs)


def rounded(value: Any) -> Any:
    """Round to nearest, ties to even, on the last 13 bits of a float32; biases (vectors) and other things stay."""
    if not isinstance(value, torch.Tensor) or value.dtype != torch.float32 or value.ndim < 2:
        return value
    bits = value.contiguous().view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    *_: Any,
    scale: float | None = None,
    **__: Any,
) -> torch.Tensor:
    """Attend with rounded factors in both products."""
    scores = rounded(query) @ rounded(key).transpose(-1, -2) * (scale or query.shape[-1] ** -0.5)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else scores + attn_mask
    return rounded(scores.softmax(-1)) @ rounded(value)
