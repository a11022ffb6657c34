"""Which hidden state is wanted: the last, one after a block, or a mean of several."""

from __future__ import annotations

import re

from embedstore.errors import InputError

Layer = int | tuple[int, int]  # -1, a block, or the first and the last block of a mean


def parse_layer(wanted: int | str, layers: int, model: str) -> Layer:
    """Read the name of a hidden state.

    Parameters
    ----------
    wanted
        -1 for the last hidden state (after the final norm, where there is one), k for the state after block k, 0 for
        the embeddings; ``"mean"`` for the mean of the states after all blocks, ``"9-12"`` for that of the blocks 9 to
        12. Numbers may be given as text.
    layers
        Blocks of the network.
    model
        Its name, for the message.

    Returns
    -------
    int or tuple of int
        -1, the block, or the first and the last block.

    Raises
    ------
    InputError
        If there is no such state.

    Examples
    --------
    >>> parse_layer("mean", 12, "m"), parse_layer("9-12", 12, "m"), parse_layer("-1", 12, "m")
    ((1, 12), (9, 12), -1)
    """
    text = str(wanted).strip()
    numbers = re.fullmatch(r"(\d{1,6})(?:-(\d{1,6}))?", text)
    first, last = (int(number or numbers[1]) for number in numbers.groups()) if numbers else (0, -1)
    layer: Layer
    if text == "mean":
        layer = (1, layers)
    elif text == "-1":
        layer = -1
    elif first <= last <= layers:
        layer = (first, last) if "-" in text else first
    else:
        raise InputError(
            f"Model {model!r} has no layer {wanted!r}: wanted -1 (last hidden state), 0 (embeddings), 1 to {layers} "
            "(after that block), 'mean' (of all blocks) or a range such as '1-3' (mean of those)."
        )
    return layer
