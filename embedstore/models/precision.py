"""How exactly a network's sums are done."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Literal, get_args

from embedstore.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

Precision = Literal["float32", "tf32", "bfloat16", "float16"]


def check_precision(precision: str, device: torch.device) -> Precision:
    """Return a precision after making sure that a device has it.

    Parameters
    ----------
    precision
        ``"float32"``: products and sums in float32. ``"tf32"``: factors rounded to 10 bits after the leading one, sums
        in float32; CUDA devices only. ``"bfloat16"``, ``"float16"``: matrix products in that format, while norms, the
        residual stream and the parameters stay in float32 (torch's autocast).
    device
        Where the network is.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If there is no such precision, or the device does not have it.
    """
    for known in get_args(Precision):
        if precision == known:
            if precision == "tf32" and device.type != "cuda":
                raise InputError(f"precision 'tf32' is a mode of CUDA devices, and this one is {device.type!r}.")
            return known  # type: ignore[no-any-return]  # get_args is not typed
    raise InputError(f"precision is {precision!r}: it must be one of {', '.join(get_args(Precision))}.")


def default_precision(device: str, dtype: str) -> Precision:
    """Return the precision that the command line uses where none is asked for.

    Parameters
    ----------
    device
        Where the network is to run, as torch names it.
    dtype
        Format in which its rows are to be stored. float32 rows are for scores, which are small differences.

    Returns
    -------
    str
        ``"tf32"`` on CUDA devices for rows stored as float16, whose rounding is of the same size; else ``"float32"``.

    Examples
    --------
    >>> default_precision("cuda:0", "float16"), default_precision("cuda:0", "float32")
    ('tf32', 'float32')
    >>> default_precision("cpu", "float16")
    'float32'
    """
    return "tf32" if device.startswith("cuda") and dtype == "float16" else "float32"


@contextmanager
def arithmetic(precision: Precision, device: torch.device, *, gradients: bool = False) -> Iterator[None]:
    """Do sums in a precision while the context lasts.

    Parameters
    ----------
    precision
        As for `check_precision`.
    device
        Where the network is.
    gradients
        Leave gradients to whoever is outside; by default (False) there are none.
    """
    import torch

    # On a GPU torch's convolutions and recurrent layers use TF32 unless told otherwise, which is float32 in name only
    # (errors of 1e-3); its matrix products do not. Every one of the switches is set, whatever the user has set before.
    switches = [torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn]  # type: ignore[attr-defined]
    before = [switch.fp32_precision for switch in switches]
    reduced = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    try:
        for switch in switches:
            switch.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        without = nullcontext() if gradients else torch.inference_mode()
        with without, torch.autocast(device.type, reduced, enabled=reduced is not None):
            yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value
