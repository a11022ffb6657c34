"""What each precision costs: the error of every family's rows against float32, on small checkpoints.

The checkpoints are those of tests/golden: random weights, scaled so that attention is not flat. The error of a row is
the length of its difference over its length. TF32 is a mode of CUDA devices; on a CPU it is imitated, by rounding the
factors of all matrix products and convolutions to 10 bits after the leading one. Prints a table in Markdown, as it
stands in docs/models.md. Run: python benchmarks/precision.py [--device cuda]
"""

from __future__ import annotations

import argparse
import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch
from common import machine
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from embedstore import models
from embedstore.models import causal
from embedstore.models.precision import arithmetic
from embedstore.sequences import encode

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def rows(folder: Path, device: str, precision: str) -> list[np.ndarray]:
    """Return the rows of all cases of a family."""
    imitate = precision == "tf32" and device == "cpu"
    model = models.load(folder, device=device, precision="float32" if imitate else precision)
    found = []
    for case in json.loads((folder / "cases.json").read_text())["cases"]:
        if case["length"] < 20:
            continue
        for piece in model.pieces(encode(case["sequence"])):
            ids = torch.from_numpy(piece.ids)[None].to(model.device)
            if imitate:
                with mock.patch.object(causal, "arithmetic", ImitatedTF32.exact), ImitatedTF32():
                    hidden = model.hidden(ids)
            else:
                hidden = model.hidden(ids)
            found.append(hidden[0, piece.first :][: len(piece.span)].cpu().numpy())
    return found


def errors(found: list[np.ndarray], exact: list[np.ndarray]) -> np.ndarray:
    """Return the relative error of every row."""
    return np.concatenate(
        [np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1) for a, b in zip(found, exact, strict=True)]
    )


def percent(values: np.ndarray) -> str:
    """Return the median and the largest error in per cent."""
    return f"{100 * np.median(values):.2g} ({100 * values.max():.2g})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    print(f"<!-- {machine()}, torch {torch.__version__}, {device} -->\n")
    tf32 = "tf32" if device != "cpu" else "tf32, imitated"
    print(f"| family | {tf32} | float16 | bfloat16 | float32 stored as float16 |\n|---|---|---|---|---|")
    for folder in sorted(
        path.parent for path in GOLDEN.glob("*/model.safetensors") if (path.parent / "cases.json").exists()
    ):
        exact = rows(folder, device, "float32")
        cells = [percent(errors(rows(folder, device, name), exact)) for name in ("tf32", "float16", "bfloat16")]
        cells.append(percent(errors([row.astype(np.float16).astype(np.float32) for row in exact], exact)))
        print(f"| {folder.name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
