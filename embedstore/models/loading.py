"""Loading a model from a record, a local checkpoint folder or a pinned revision on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import CheckpointError, InputError, did_you_mean
from embedstore.models.model import Model
from embedstore.models.records import ModelRecord, records

if TYPE_CHECKING:
    import os

    import torch

    from embedstore.models.checkpoints import Checkpoint
    from embedstore.tokenizers import Tokenizer

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def load(
    model: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    layer: int = -1,
    name: str | None = None,
) -> Model:
    """Load a frozen language model.

    No code of a checkpoint is run and nothing is unpickled. Every missing or unexpected key is an error, and the loaded
    model must pass a short trial: finite outputs, one row per token, no unknown tokens for A, C, G, T, and an output
    that changes with the input.

    Parameters
    ----------
    model
        One of: the id of a known model (`records`), a local checkpoint folder, or a repository ``"organisation/name"``
        on the Hugging Face hub.
    checkpoint
        Folder with the checkpoint of a known model. Without it the model's repository on the hub is used.
    revision
        Commit of the hub repository, 40 hexadecimal digits. Branches and tags can move, so they are not taken. Not for
        local folders.
    device
        Where to run, as torch names it. Default the CPU.
    layer
        Hidden state to give: -1 (default) the last one, after the final norm where there is one; k the state after
        block k; 0 the embeddings.
    name
        Name under which embeddings are stored. Default: the id, or the last part of the folder's or repository's name.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        If the model, layer or device is not known, or an argument is missing or not wanted.
    CheckpointError
        If the checkpoint cannot be fetched, is incomplete, has unknown parts, or would need code or pickles to load.
    """
    known, folder, hub = _resolve(model, checkpoint)
    if folder is None:
        from embedstore.models.hub import fetch

        revision = _pinned(hub, revision or (known.revision if known else ""))
        folder = fetch(hub, revision)
    elif revision:
        raise InputError(f"revision={revision!r} is for repositories on the hub; {folder} is a local folder.")
    from embedstore.models.architectures import ARCHITECTURES, recognise
    from embedstore.models.checkpoints import read_checkpoint

    parts = read_checkpoint(folder)
    architecture = recognise(parts)
    spec = ARCHITECTURES[architecture]
    network = spec.build(parts)
    tokenizer = spec.tokenizer(folder)
    rule = spec.window_rule(tokenizer, parts)
    if known:
        _check_record(known, architecture, int(network.width), int(network.layers), folder)  # type: ignore[arg-type]
    _check_vocabulary(tokenizer, parts)
    record: dict[str, Any] = {
        "id": known.id if known else "",
        "architecture": architecture,
        "checkpoint": hub or str(folder),
        "revision": revision or "",
        "files": parts.digests,
        "tokenizer": tokenizer.description,
        "licence": known.licence if known else "",
        "paper": known.paper if known else "",
    }
    loaded = Model(
        name or (known.id if known else Path(hub or folder).name),
        network,
        rule,
        layer=layer,
        device=device,
        record=record,
        digest=parts.digest,
    )
    _trial(loaded, tokenizer, folder)
    return loaded


def _resolve(
    model: str | os.PathLike[str], checkpoint: str | os.PathLike[str] | None
) -> tuple[ModelRecord | None, Path | None, str]:
    """Return the record, if any, and where the checkpoint is: a folder, or a repository on the hub."""
    text = str(model)
    known = records().get(text)
    if known is None:
        if checkpoint is not None:
            raise InputError(
                f"No model is called {text!r}, so checkpoint={str(checkpoint)!r} cannot belong to it."
                f"{did_you_mean(text, records())}"
            )
        if Path(text).is_dir():
            return None, Path(text).resolve(), ""
        if _HUB_NAME.fullmatch(text):
            return None, None, text
        raise InputError(
            f"{text!r} is neither a known model nor a folder nor a hub name 'organisation/name'."
            f"{did_you_mean(text, records())}"
        )
    if known.architecture == "onehot":
        raise InputError(
            f"{text!r} needs no model: a store computes it from its sequences, store.embedding(task, {text!r})."
        )
    if checkpoint is not None:
        if not Path(checkpoint).is_dir():
            raise InputError(f"checkpoint={str(checkpoint)!r} is not a folder.")
        return known, Path(checkpoint).resolve(), ""
    if not known.hub:
        raise InputError(
            f"{text!r} has no public repository: give checkpoint=, the folder that holds its checkpoint. A folder of "
            f"that name is given as './{text}'."
        )
    return known, None, known.hub


def _pinned(hub: str, revision: str) -> str:
    """Return the commit of a hub repository after making sure that it is one."""
    if not _COMMIT.fullmatch(revision):
        raise InputError(
            f"{hub!r} is no folder here, so it is taken for a repository on the Hugging Face hub: give revision=, the "
            "commit to use (40 hexadecimal digits; see 'Files and versions' of the repository), or a local folder. "
            f"Found revision={revision!r}; branches and tags are not taken because they can move."
        )
    return revision


def _check_record(known: ModelRecord, architecture: str, width: int, layers: int, folder: Path) -> None:
    """Make sure that a checkpoint is one of the model it is said to be."""
    found = {"architecture": architecture, "width": width, "layers": layers}
    wanted = {name: getattr(known, name) or value for name, value in found.items()}
    if found != wanted:
        raise CheckpointError(
            f"{folder}: not a checkpoint of {known.id}: found {found}, wanted {wanted}. To use it all the same, give "
            "the folder itself as the model."
        )


def _check_vocabulary(tokenizer: Tokenizer, parts: Checkpoint) -> None:
    """Make sure that the embedding has a row for every id that the tokenizer gives."""
    rows = parts.integer("vocab_size")
    if tokenizer.size > rows:
        raise CheckpointError(
            f"{parts.folder}: the tokenizer gives ids up to {tokenizer.size - 1}, the model has {rows} rows ("
            "vocab_size of config.json): the tokenizer files belong to another model."
        )


def _trial(model: Model, tokenizer: Tokenizer, folder: Path) -> None:
    """Run a fixed sequence and one with a letter changed; raise when the outputs cannot be right."""
    import torch

    codes = np.frombuffer(b"ACGT" * 3 + b"TTGACCAGGATCCATGCATTAGGCA", np.uint8).copy()
    codes = codes[: 7 * 5]  # not a multiple of six: words and single letters
    changed = codes.copy()
    changed[2] = ord("T")
    pieces = model.pieces(codes)
    first, other = pieces[0], model.pieces(changed)[0]
    ids = torch.from_numpy(np.stack([first.ids, other.ids])).to(model.device)
    hidden = model.hidden(ids)
    kept = hidden[:, first.first : first.first + len(first.span)]
    problems = []
    if sum(int(piece.span.sum()) for piece in pieces) != len(codes):
        problems.append("its tokens do not tile the sequence")
    if hidden.shape != (*ids.shape, model.width) or kept.shape[1] != len(first.span):
        problems.append(f"it gives the shape {list(hidden.shape)} for {list(ids.shape)} tokens of width {model.width}")
    if (first.ids == tokenizer.unknown_id).any():
        problems.append("its tokenizer does not know A, C, G, T")
    if not torch.isfinite(hidden).all():
        problems.append("it gives values that are not finite")
    elif not (kept[0] != kept[1]).any():
        problems.append("its output does not change when a letter changes")
    if problems:
        raise CheckpointError(f"{folder}: the model fails its trial: {'; '.join(problems)}. The checkpoint is damaged.")
