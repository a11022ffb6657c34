"""How much arithmetic a model takes, and how much of it a device does in a second."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from embedstore.errors import InputError
from embedstore.models.precision import arithmetic, check_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from embedstore.models.model import Model

_REPEATS = 5
_MATRIX = {"cuda": 8192}
_SMALL_MATRIX = 1024  # rows, on other devices


def flops(model: Model, ids_lengths: Sequence[int]) -> int:
    """Count the floating-point operations of one forward pass, by running it.

    Counted are products of matrices, attention, convolutions and LSTM layers, a multiplication and an addition as two;
    not what is done element by element (norms, activations, softmax), nor Fourier transforms and scans. The count is
    thus too low for HyenaDNA and Caduceus.

    Parameters
    ----------
    model
        A model.
    ids_lengths
        Tokens of each sequence, special ones among them, at least 1. Their number has no padding in it.

    Returns
    -------
    int

    Raises
    ------
    InputError
        If there are no sequences, or one is empty.

    Notes
    -----
    Uses `torch.utils.flop_counter.FlopCounterMode`. Block-sparse attention is counted as what it computes. What a
    network keeps for the next pass (the filters of HyenaDNA for a length) is counted in the first.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from embedstore.models.packing import check_lengths

    check_lengths(ids_lengths, sum(ids_lengths))
    # Those that torch 2.13 does not know: attention on a CPU; and LSTM layers, which must be there under both names. By
    # one it sees that they need not be taken apart, by the other it finds how to count them.
    known: dict[Any, Any] = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,  # noqa: SLF001
        torch.ops.aten.lstm: _lstm_flops,
        torch.ops.aten.lstm.input: _lstm_flops,
    }
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        if model.packs:
            ids = torch.zeros(sum(ids_lengths), dtype=torch.int64, device=model.device)
            model.hidden_packed(ids, ids_lengths)
        else:
            for length, sequences in Counter(ids_lengths).items():
                model.hidden(torch.zeros(sequences, length, dtype=torch.int64, device=model.device))
    return int(counter.get_total_flops())


def _attention_flops(query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: object, **__: object) -> int:
    """Return the operations of attention by the shapes of what goes in."""
    batch, heads, asking, channels = query
    return 2 * batch * heads * asking * key[2] * (channels + value[3])


def _lstm_flops(x: Sequence[int], _: object, parameters: Sequence[Sequence[int]], *__: object, **___: object) -> int:
    """Return the operations of LSTM layers by the shapes of what goes in: each weight is used once for each token."""
    return 2 * x[0] * x[1] * sum(math.prod(shape) for shape in parameters if len(shape) > 1)


def matmul_rate(device: str | torch.device, precision: str, seconds: float = 0.2) -> float:
    """Measure how fast a device multiplies matrices: what a model's `flops` can be held against.

    Parameters
    ----------
    device
        Where to measure.
    precision
        As for `embedstore.models.precision.check_precision`.
    seconds
        About how long to measure, after one product to warm up and one to see how long it takes; the five parts into
        which the time is divided are of at least one product each.

    Returns
    -------
    float
        Floating-point operations per second, a multiplication and an addition as two; the median of the five parts.
        The matrices are square, of 8,192 rows on CUDA devices and 1,024 on others.

    Raises
    ------
    InputError
        If there is no such precision, the device does not have it, or the time is not positive.
    """
    import torch

    device = torch.device(device)
    known = check_precision(precision, device)
    if not seconds > 0:
        raise InputError(f"seconds is {seconds}: a rate is measured over a time above 0.")
    size = _MATRIX.get(device.type, _SMALL_MATRIX)
    # In the format in which autocast multiplies, so that the rate is that of the product and not of a conversion.
    dtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(known, torch.float32)

    def once(products: int) -> float:
        began = time.perf_counter()
        for _ in range(products):
            torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    with arithmetic(known, device):
        left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        once(1)
        products = max(1, round(seconds / _REPEATS / once(1)))
        return statistics.median(products * 2 * size**3 / once(products) for _ in range(_REPEATS))
