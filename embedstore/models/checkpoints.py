"""Reading checkpoint folders without running anything that is in them.

Accepted: ``config.json``, tokenizer files, and weights as safetensors or, failing that, as a ``pytorch_model.bin`` that
torch's weights-only reader takes. Code files and ``auto_map`` entries are never looked at; every missing or unexpected
key is an error.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file

from embedstore.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
TOKENIZER_FILES = ("vocab.txt", "tokenizer.json", "tokenizer_config.json", "spiece.model")

# Names of TensorFlow days, in files of old BERTs and in what transformers 5 saves of an ESM.
_GAMMA_BETA = re.compile(r"\bLayerNorm\.(gamma|beta)$")


@dataclass(frozen=True)
class Checkpoint:
    """What was read from a checkpoint folder.

    Attributes
    ----------
    folder
        Where it is.
    config, tokenizer_config
        Contents of ``config.json`` and ``tokenizer_config.json``.
    weights
        Tensors under the names in the file, with ``LayerNorm.gamma`` and ``beta`` read as ``weight`` and ``bias``.
    digests
        sha256 of every file that decides the numbers: weights, config, tokenizer; hexadecimal, by file name.
    """

    folder: Path
    config: dict[str, Any]
    tokenizer_config: dict[str, Any]
    weights: dict[str, Tensor]
    digests: dict[str, str]

    @property
    def digest(self) -> str:
        """sha256 over the names and digests of all files, hexadecimal."""
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(self.digests.items()))
        return hashlib.sha256(lines.encode()).hexdigest()

    def integer(self, name: str, most: int = 10**7) -> int:
        """Return a positive integer of ``config.json``.

        Parameters
        ----------
        name
            The field.
        most
            The largest value that makes sense. Default ten million.

        Returns
        -------
        int

        Raises
        ------
        CheckpointError
            If it is missing or something else.
        """
        value = self.config.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise CheckpointError(
                f"{self.folder}/config.json: the field {name!r} is {value!r}; wanted an integer of 1 to {most}."
            )
        return value

    def fraction(self, name: str) -> float:
        """Return a number between 0 and 1 of ``config.json``, such as the epsilon of a norm.

        Parameters
        ----------
        name
            The field.

        Returns
        -------
        float

        Raises
        ------
        CheckpointError
            If it is missing or something else.
        """
        value = self.config.get(name)
        if not isinstance(value, float) or not 0 < value < 1:
            raise CheckpointError(
                f"{self.folder}/config.json: the field {name!r} is {value!r}; wanted a number between 0 and 1."
            )
        return value

    def fill(self, network: nn.Module, sources: Mapping[str, Sequence[str]], ignorable: Sequence[str]) -> None:
        """Give a network its weights, in float32, and check that nothing is missing or left over.

        Parameters
        ----------
        network
            Its parameters and buffers may be on the meta device.
        sources
            For every parameter and buffer the names in the file; several are joined along the first axis.
        ignorable
            Patterns (as of the shell) of names in the file that an embedding does not need.

        Raises
        ------
        CheckpointError
            Naming every key that is missing, unexpected or of the wrong shape.
        """
        own = network.state_dict()
        wanted = {
            theirs: (own[ours].shape[0] // len(names), *own[ours].shape[1:])
            for ours, names in sources.items()
            for theirs in names
        }
        problems = [f"missing: {name} {list(shape)}" for name, shape in wanted.items() if name not in self.weights]
        for name, tensor in self.weights.items():
            if name not in wanted:
                if not any(fnmatch(name, pattern) for pattern in ignorable):
                    problems.append(f"unexpected: {name} {list(tensor.shape)}")
            elif tuple(tensor.shape) != wanted[name] or not tensor.is_floating_point():
                problems.append(
                    f"wrong: {name} is {list(tensor.shape)} {tensor.dtype}, wanted {list(wanted[name])} of floats"
                )
        if problems:
            raise CheckpointError(
                f"{self.folder}: the weights do not fit the architecture that config.json describes "
                f"({len(problems)} problems; nothing was loaded):\n  "
                + "\n  ".join(problems[:20])
                + ("\n  ..." if len(problems) > 20 else "")
            )
        # torch.cat copies even a single tensor: the file is mapped into memory and may change later.
        state = {
            ours: torch.cat([self.weights[name].to(torch.float32) for name in names]) for ours, names in sources.items()
        }
        network.load_state_dict(state, strict=True, assign=True)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read a checkpoint folder.

    Parameters
    ----------
    folder
        Holds ``config.json``, the tokenizer files and the weights, in the layout of the Hugging Face hub.

    Returns
    -------
    Checkpoint

    Raises
    ------
    CheckpointError
        If a file is missing, damaged, or would need pickle or code to load.
    """
    config = _read_json(folder / "config.json")
    tokenizer_config = _read_json(folder / "tokenizer_config.json") if _has(folder, "tokenizer_config.json") else {}
    files = _weight_files(folder)
    weights: dict[str, Tensor] = {}
    for path in files:
        tensors = _read_tensors(path)
        part = {_GAMMA_BETA.sub(_current_name, name): tensor for name, tensor in tensors.items()}
        if len(part) < len(tensors):
            raise CheckpointError(f"{path}: a LayerNorm has both gamma and weight, or both beta and bias.")
        twice = sorted(weights.keys() & part.keys())
        if twice:
            raise CheckpointError(f"{path}: the keys {twice[:5]} are in another file of this checkpoint too.")
        weights |= part
    described = [folder / name for name in ("config.json", *TOKENIZER_FILES) if _has(folder, name)]
    return Checkpoint(folder, config, tokenizer_config, weights, {p.name: _sha256(p) for p in [*files, *described]})


def _current_name(match: re.Match[str]) -> str:
    """Return today's name of a norm's parameter."""
    return "LayerNorm.weight" if match[1] == "gamma" else "LayerNorm.bias"


def _has(folder: Path, name: str) -> bool:
    """Tell whether a file is in a folder."""
    return (folder / name).is_file()


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path}: no such file. A checkpoint folder holds config.json, tokenizer files and model.safetensors (or "
            "pytorch_model.bin), as on the Hugging Face hub."
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: cannot read this as JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: wanted a JSON object, found a {type(content).__name__}.")
    return content


def _weight_files(folder: Path) -> list[Path]:
    """Return the files that hold the weights: safetensors before .bin, one file before a set of shards."""
    for name in WEIGHT_FILES:
        if _has(folder, name):
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            shards = _read_json(index).get("weight_map")
            names = set(shards.values()) if isinstance(shards, dict) else set()
            suffix = Path(name).suffix
            bad = [n for n in names if not isinstance(n, str) or Path(n).name != n or not n.endswith(suffix)]
            if bad or not names:
                raise CheckpointError(
                    f"{index}: weight_map must name {suffix} files of this folder; found {sorted(map(str, bad))[:5]}."
                )
            return [folder / n for n in sorted(names)]
    seen = sorted(path.name for path in folder.iterdir())
    raise CheckpointError(
        f"{folder}: no weights that can be read. Wanted model.safetensors or pytorch_model.bin (or the index of their "
        f"shards); found {seen[:20]}. Other pickled files (.pt, .ckpt, .pkl) are never opened: convert them to "
        "safetensors where you trust them."
    )


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of one file; never runs what is in it."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file, but the checkpoint's index names it.") from error
    except Exception as error:
        # A damaged or hostile file can make the readers raise nearly anything; all of it means the same here.
        raise CheckpointError(
            f"{path}: not a file of weights alone, or damaged: {type(error).__name__}: {str(error).splitlines()[:1]}. "
            "Nothing in it was run. Fetch it again, or ask its authors for model.safetensors."
        ) from error
    if not isinstance(loaded, dict) or not all(
        isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in loaded.items()
    ):
        raise CheckpointError(f"{path}: wanted a dict of tensors by name, found something else.")
    return loaded


def _sha256(path: Path) -> str:
    """Return the sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
