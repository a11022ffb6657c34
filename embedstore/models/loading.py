"""Loading a model from a record, a local checkpoint folder or a pinned revision on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from embedstore.errors import CheckpointError, InputError, did_you_mean
from embedstore.models.model import Model
from embedstore.models.records import COMMIT, HUB_NAME, ModelRecord, installed, record, records

if TYPE_CHECKING:
    import os

    import torch

    from embedstore.models.checkpoints import Checkpoint
    from embedstore.tokenizers import Tokenizer

# Known letters only. 39 nucleotides are whole codons, but not whole words of six: words and single letters.
_TRIAL = {"dna": b"ACGTACGTACGTTTGACCAGGATCCATGCATTAGGCATG", "protein": b"MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQDPNWCGT"}


def load(
    model: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    layer: int | str = -1,
    precision: str | None = None,
    windows: bool = True,
    overlap: int = 0,
    rules: str | None = None,
    name: str | None = None,
    log_probabilities: Literal["letters", "sequence"] | None = None,
) -> Model:
    """Load a frozen language model.

    No code of a checkpoint is run and nothing is unpickled. Every missing or unexpected key is an error, and the loaded
    model must pass a short trial: finite outputs, one row per token, no unknown tokens for A, C, G, T (or the twenty
    amino acids), and an output that changes with the input.

    Parameters
    ----------
    model
        One of: the id of a known model (`records`), a record of your own (a TOML file), the name of an installed
        encoder, a local checkpoint folder, or a repository ``"organisation/name"`` on the Hugging Face hub.
    checkpoint
        Folder with the checkpoint of a known model. Without it the model's repository on the hub is used.
    revision
        Commit of the hub repository, 40 hexadecimal digits. Branches and tags can move, so they are not taken. Not for
        local folders.
    device
        Where to run, as torch names it. Default the CPU.
    layer
        Hidden state to give: -1 (default) the last one, after the final norm where there is one; k the state after
        block k; 0 the embeddings; ``"mean"`` the mean of the states after all blocks, ``"9-12"`` of those after blocks
        9 to 12.
    precision
        How exactly the sums are done: ``"float32"`` (default, and None), ``"tf32"`` (CUDA devices only), ``"bfloat16"``
        or ``"float16"``. Scores need float32; docs/models.md has the errors of the others.
    windows
        Whether sequences longer than the model's context are cut into windows (default), or refused.
    overlap
        Letters that windows share, of which each keeps the half nearer to its centre; more context for the rows near
        the edges, and more to compute. Default 0: windows are disjoint, as in BEND. See
        `embedstore.models.windows.overlapping`.
    rules
        ``"authors"``: as the model's authors publish it. ``"bend"``: as BEND's code ran it, for comparison with its
        numbers: HyenaDNA's windows begin with [CLS]; DNABERT's k-mers stand in the order of `bend_order`; GENA-LM
        BERT's last norm is left out. ``"kernels"``, for Caduceus: as Mamba's GPU kernels do, see `build_caduceus`. None
        (default): what the model's record says, which is ``"authors"`` for nearly all.
    name
        Name under which embeddings are stored. Default: the id, or the last part of the folder's or repository's name.
    log_probabilities
        ``"letters"`` or ``"sequence"``: give those of the model's head in place of hidden states, as
        `embedstore.models.letters.letter_model` does. None (default): hidden states.

    Returns
    -------
    Model

    Raises
    ------
    InputError
        If the model, layer, precision or device is not known, or an argument is missing or not wanted.
    CheckpointError
        If the checkpoint cannot be fetched, is incomplete, has unknown parts, or would need code or pickles to load.
    """
    if overlap and not windows:
        raise InputError(f"overlap is {overlap!r}, and windows are off: nothing can overlap. Leave one of them out.")
    if str(model) in installed():
        _refuse_options(str(model), checkpoint, revision, layer, precision, windows, overlap, rules)
        from embedstore.models.function import load_function

        return _view(load_function(str(model), name=name, device=device), log_probabilities)
    from embedstore.models.architectures import architecture, recognise
    from embedstore.models.checkpoints import read_checkpoint
    from embedstore.models.windows import overlapping, single

    known, folder, hub, revision = _located(model, checkpoint, revision)
    parts = read_checkpoint(folder)
    kind = recognise(parts)
    rules = rules or (known.rules if known else "") or "authors"
    spec = architecture(kind, rules)
    network, tokenizer = spec.build(parts), spec.tokenizer(folder)
    rule = overlapping(spec.window_rule(tokenizer, parts), overlap)
    _check_record(known, kind, network.width, network.layers, folder)
    _check_vocabulary(tokenizer, parts)
    about = {field: getattr(known, field, "") for field in ("id", "licence", "paper")}
    about |= {"architecture": kind, "checkpoint": hub or str(folder), "revision": revision, "files": parts.digests}
    loaded = Model(
        name or (known.id if known else Path(hub or folder).name),
        network,
        rule if windows else single(rule),
        alphabet=tokenizer.alphabet,
        layer=layer,
        precision=precision or "float32",
        device=device,
        record={**about, "tokenizer": tokenizer.description, "rules": rules},
        digest=parts.digest,
    )
    _trial(loaded, tokenizer, folder)
    return _view(loaded, log_probabilities)


def _view(model: Model, log_probabilities: Literal["letters", "sequence"] | None) -> Model:
    """Return the model, or what its head gives."""
    if log_probabilities is None:
        return model
    from embedstore.models.letters import letter_model

    return letter_model(model, log_probabilities)


def _refuse_options(name: str, *options: object) -> None:
    """Refuse what a function does not have: a checkpoint, layers, windows ..."""
    if options != (None, None, -1, None, True, 0, None):
        raise InputError(
            f"{name!r} is a function, without checkpoint, revision, layer, precision, windows, overlap or rules; leave "
            "them out."
        )


def _located(
    model: str | os.PathLike[str], checkpoint: str | os.PathLike[str] | None, revision: str | None
) -> tuple[ModelRecord | None, Path, str, str]:
    """Return the record, if any, the folder with the checkpoint, and the repository and commit that it is from."""
    known, folder, hub = _resolve(model, checkpoint)
    if folder is not None:
        if revision:
            raise InputError(f"revision={revision!r} is for repositories on the hub; {folder} is a local folder.")
        return known, folder, hub, ""
    from embedstore.models.hub import fetch

    commit = _pinned(hub, revision or (known.revision if known else ""))
    return known, fetch(hub, commit), hub, commit


def _resolve(
    model: str | os.PathLike[str], checkpoint: str | os.PathLike[str] | None
) -> tuple[ModelRecord | None, Path | None, str]:
    """Return the record, if any, and where the checkpoint is: a folder, or a repository on the hub."""
    text = str(model)
    known = record(text) if text.endswith(".toml") else records().get(text)
    if known is None:
        if checkpoint is not None:
            raise InputError(
                f"No model is called {text!r}, so checkpoint={str(checkpoint)!r} cannot belong to it."
                f"{did_you_mean(text, records())}"
            )
        if Path(text).is_dir():
            return None, Path(text).resolve(), ""
        if HUB_NAME.fullmatch(text) and not text.startswith("."):
            return None, None, text
        raise InputError(
            f"{text!r} is neither a known model nor a record (.toml) nor a folder nor a hub name 'organisation/name'."
            f"{did_you_mean(text, [*records(), *installed()])}"
        )
    if known.architecture == "onehot":
        raise InputError(
            f"{text!r} needs no model: a store computes it from its sequences, store.embedding(task, {text!r})."
        )
    checkpoint = checkpoint or known.checkpoint
    if checkpoint:
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
    if not COMMIT.fullmatch(revision):
        raise InputError(
            f"{hub!r} is no folder here, so it is taken for a repository on the Hugging Face hub: give revision=, the "
            "commit to use (40 hexadecimal digits; see 'Files and versions' of the repository), or a local folder. "
            f"Found revision={revision!r}; branches and tags are not taken because they can move."
        )
    return revision


def _check_record(known: ModelRecord | None, architecture: str, width: int, layers: int, folder: Path) -> None:
    """Make sure that a checkpoint is one of the model it is said to be, where that is a known one."""
    if known is None:
        return
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

    codes = np.frombuffer(_TRIAL[tokenizer.alphabet], np.uint8)
    changed = codes.copy()
    changed[2] = codes[3]
    problems, kept = [], []
    for letters in (codes, changed):
        pieces = model.pieces(letters)
        if sum(int(piece.span.sum()) for piece in pieces) != len(letters):
            problems.append("its tokens do not tile the sequence")
        ids = torch.from_numpy(pieces[0].ids).to(model.device)
        if (ids == tokenizer.unknown_id).any():
            share = float((ids == tokenizer.unknown_id).float().mean())
            problems.append(f"its tokenizer makes unknown tokens of known letters ({share:.0%} of the tokens)")
        hidden = model.hidden(ids[None])
        if hidden.shape != (1, len(ids), model.width):
            problems.append(f"it gives the shape {list(hidden.shape)} for {len(ids)} tokens of width {model.width}")
        elif not torch.isfinite(hidden).all():
            problems.append("it gives values that are not finite")
        kept.append(hidden[0, pieces[0].first :][: len(pieces[0].span)])
    if not problems and kept[0].shape == kept[1].shape and torch.equal(*kept):
        problems.append("its output does not change when a letter changes")
    if problems:
        raise CheckpointError(
            f"{folder}: the model fails its trial: {'; '.join(dict.fromkeys(problems))}. The checkpoint is damaged, or "
            "its files do not belong together."
        )
