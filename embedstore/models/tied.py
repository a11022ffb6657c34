"""Tensors that a checkpoint may hold under several names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from embedstore.errors import CheckpointError

if TYPE_CHECKING:
    from embedstore.models.checkpoints import Checkpoint


def tied_key(checkpoint: Checkpoint, *names: str) -> str:
    """Return the name under which a checkpoint holds a tensor that has several names.

    Parameters
    ----------
    checkpoint
        Its weights. Those on the meta device have no values and count as equal.
    names
        Names of the one tensor, the one to prefer first.

    Returns
    -------
    str
        The first name that is there; the first of all when none is.

    Raises
    ------
    CheckpointError
        If several are there and their tensors differ.

    Examples
    --------
    >>> from pathlib import Path
    >>> from embedstore.models.checkpoints import Checkpoint
    >>> checkpoint = Checkpoint(Path("folder"), {}, {}, {"decoder.weight": torch.ones(2)}, {})
    >>> tied_key(checkpoint, "embedding.weight", "decoder.weight")
    'decoder.weight'
    """
    present = [name for name in names if name in checkpoint.weights]
    for name in present[1:]:
        one, other = checkpoint.weights[present[0]], checkpoint.weights[name]
        alike = one.shape == other.shape and one.dtype == other.dtype
        if not alike or not (one.is_meta or torch.equal(one, other)):
            raise CheckpointError(
                f"{checkpoint.folder}: {present[0]} and {name} are one tensor in this architecture, but differ. The "
                "checkpoint is damaged, or of another architecture."
            )
    return present[0] if present else names[0]


def head_key(checkpoint: Checkpoint, head: str, embedding: str, *, tied: bool, bare: bool) -> str | None:
    """Return where the weight of a linear head is in a checkpoint.

    Parameters
    ----------
    checkpoint
        Its weights.
    head, embedding
        Names of the head's own weight and of the token embedding's.
    tied
        Whether the two are one tensor.
    bare
        Whether the checkpoint was written by a class that has no head.

    Returns
    -------
    str or None
        None where there is no head.

    Raises
    ------
    CheckpointError
        If they are one tensor and differ.
    """
    if head not in checkpoint.weights and (bare or not tied):
        return None
    return tied_key(checkpoint, embedding, head) if tied else head
