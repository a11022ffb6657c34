"""The known architectures: how each is recognised, built, tokenised and cut. The one place to add another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.errors import CheckpointError
from embedstore.models import convnet, esm, windows
from embedstore.tokenizers import CharacterTokenizer, KmerTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import nn

    from embedstore.models.checkpoints import Checkpoint
    from embedstore.tokenizers import Tokenizer


class Architecture(NamedTuple):
    """What it takes to run the checkpoints of one architecture.

    Attributes
    ----------
    recognise
        Whether a checkpoint is of this architecture, by the fields of its config and the keys of its weights.
    build
        The network with the checkpoint's weights. It has `width`, `layers` and a forward of (ids, layer).
    tokenizer
        The tokenizer of a checkpoint folder.
    window_rule
        How sequences are cut, given the tokenizer and the checkpoint.
    """

    recognise: Callable[[Checkpoint], bool]
    build: Callable[[Checkpoint], nn.Module]
    tokenizer: Callable[[Path], Tokenizer]
    window_rule: Callable[[Any, Checkpoint], windows.WindowRule]


ARCHITECTURES: dict[str, Architecture] = {
    "nucleotide_transformer": Architecture(
        esm.is_esm,
        esm.build_esm,
        KmerTokenizer.from_folder,
        lambda tokenizer, checkpoint: windows.nucleotide_transformer(tokenizer, esm.esm_max_tokens(checkpoint)),
    ),
    "convnet": Architecture(
        convnet.is_convnet,
        convnet.build_convnet,
        CharacterTokenizer.from_folder,
        lambda tokenizer, _checkpoint: windows.whole(tokenizer),
    ),
}


def recognise(checkpoint: Checkpoint) -> str:
    """Return the name of a checkpoint's architecture.

    Parameters
    ----------
    checkpoint
        Config and weights.

    Returns
    -------
    str
        A key of `ARCHITECTURES`.

    Raises
    ------
    CheckpointError
        If it is none of them.
    """
    for name, architecture in ARCHITECTURES.items():
        if architecture.recognise(checkpoint):
            return name
    config = checkpoint.config
    raise CheckpointError(
        f"{checkpoint.folder}: config.json says architectures={config.get('architectures')!r}, "
        f"model_type={config.get('model_type')!r}; known here: {', '.join(ARCHITECTURES)}."
    )
