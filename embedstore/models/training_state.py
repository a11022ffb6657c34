"""Files of a training run: the checkpoint in BEND's layout, and what a later run needs to go on. No pickle."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from embedstore import __version__
from embedstore.errors import CheckpointError, InputError
from embedstore.models.corpus import FIRST_LETTER, MASK, PAD, UNKNOWN
from embedstore.outputs import write_atomically, written_whole

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from embedstore.models.awd_lstm import AwdLstmSpec
    from embedstore.models.convnet import ConvNetSpec

_SPECIAL = {"[PAD]": PAD, "[MASK]": MASK, "[UNK]": UNKNOWN}
_VOCABULARY = {**_SPECIAL, **{letter: FIRST_LETTER + i for i, letter in enumerate("acgt")}}
_ROLES = {"pad_token": "[PAD]", "mask_token": "[MASK]", "unk_token": "[UNK]"}


def save_checkpoint(folder: Path, network: nn.Module, spec: ConvNetSpec | AwdLstmSpec) -> None:
    """Write a model in BEND's layout, with GPN's tokenizer files; `embedstore.models.load` reads it.

    Parameters
    ----------
    folder
        Where to write ``config.json``, the tokenizer files and ``model.safetensors``.
    network
        The model, with its head.
    spec
        Its sizes.
    """
    config, tensors = spec.checkpoint(network)
    _write_json(folder / "config.json", config)
    _write_json(folder / "special_tokens_map.json", _ROLES)
    _write_json(folder / "tokenizer_config.json", {**_ROLES, "tokenizer_class": "PreTrainedTokenizerFast"})
    _write_json(folder / "tokenizer.json", _tokenizer())
    write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})


def save_state(file: Path, network: nn.Module, optimizer: torch.optim.Optimizer, run: dict[str, Any]) -> None:
    """Write everything that a later run needs to go on, in one step.

    Parameters
    ----------
    file
        A safetensors file. `run` is the entry ``run`` of its metadata, as JSON.
    network, optimizer
        What is trained, and with what.
    run
        Settings, steps done, history; as JSON can hold it.
    """
    tensors = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": tensor for name, tensor in state.items()}
    write_tensors(file, tensors, {"run": json.dumps(run)})


def save_record(file: Path, run: dict[str, Any]) -> None:
    """Write how a model was trained, for people to read: every setting, how far the run is, and what it reached.

    Parameters
    ----------
    file
        A JSON file.
    run
        As for `save_state`; its history and losses are left out, which have a file of their own.
    """
    kept = {name: value for name, value in run.items() if name not in ("history", "losses")}
    _write_json(file, {"embedstore": __version__, **kept})


def load_state(
    file: Path, network: nn.Module, optimizer: torch.optim.Optimizer, settings: dict[str, Any]
) -> dict[str, Any]:
    """Read what `save_state` wrote, into a network and an optimizer.

    Parameters
    ----------
    file
        The safetensors file.
    network, optimizer
        As they are at the start of a run with these settings.
    settings
        Of this run; they must be those of the saved one.

    Returns
    -------
    dict
        `run` as it was saved.

    Raises
    ------
    InputError
        If the settings differ.
    CheckpointError
        If the file is damaged.
    """
    try:
        with safe_open(file, "pt") as stored:
            run: dict[str, Any] = json.loads(stored.metadata()["run"])
            differ = {
                name: (run["settings"].get(name), value)
                for name, value in settings.items()
                if run["settings"].get(name) != value
            }
            tensors = {} if differ else {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        if not differ:
            _restore(tensors, network, optimizer)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(
            f"{file}: the state of the run is damaged: {error}. Delete {file.parent} to train anew; the model in "
            f"{file.parent.parent} is as it was last saved."
        ) from error
    if differ:
        rows = "; ".join(f"{name} was {old!r}, is {new!r}" for name, (old, new) in differ.items())
        raise InputError(
            f"{file}: this run was begun with other settings: {rows}. Give the same settings to go on, or another "
            "folder for a new run."
        )
    return run


def _restore(tensors: dict[str, torch.Tensor], network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put saved tensors where they belong."""
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        part, _, name = key.partition(".")
        if part == "optimizer":
            i, _, name = name.partition(".")
            moments.setdefault(int(i), {})[name] = tensor
    network.load_state_dict(
        {key.removeprefix("network."): tensor for key, tensor in tensors.items() if key.startswith("network.")}
    )
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})


def _tokenizer() -> dict[str, Any]:
    """Return the contents of ``tokenizer.json``: one token per letter, the input lower-cased."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": word, **flags, "special": True} for word, i in _SPECIAL.items()],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "vocab": _VOCABULARY,
            "merges": [],
        },
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file."""
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file that is either the old or the new one, whenever the run ends.

    Parameters
    ----------
    path
        The file.
    tensors
        By name, on any device.
    metadata
        Texts by name.

    Raises
    ------
    DiskSpaceError
        The disk is full; a file that was there stays.
    """
    # Copies: safetensors refuses tensors that share memory, as the two ends of a tied embedding do.
    copies = {name: tensor.cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    with written_whole(path) as part:
        try:
            save_file(copies, part, metadata)
        except SafetensorError as error:
            # safetensors has one class for all that fails, and the system's error in its text.
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]), str(error), str(path)) if number else error from error
