"""Hostile checkpoints: nothing in a folder may run, and nothing outside it may be read."""

from __future__ import annotations

import functools
import io
import json
import os
import pickle
import runpy
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from embedstore.errors import CheckpointError
from embedstore.models import load

GOLDEN = Path(__file__).parents[1] / "golden" / "nt_v1"


# What a pickle can have called while it is read; every one of them makes the canary file when it is.
WAYS = {
    "os.system": lambda canary: (os.system, (f"touch '{canary}'",)),
    "os.popen": lambda canary: (os.popen, (f"touch '{canary}'",)),
    "os.open": lambda canary: (os.open, (str(canary), os.O_CREAT)),
    "os.mkdir": lambda canary: (os.mkdir, (str(canary),)),
    "subprocess": lambda canary: (subprocess.check_call, (["touch", str(canary)],)),
    "exec": lambda canary: (exec, (f"open({str(canary)!r}, 'w').close()",)),
    "eval": lambda canary: (eval, (f"open({str(canary)!r}, 'w').close()",)),
    "open": lambda canary: (open, (str(canary), "w")),
    "map": lambda canary: (list, (map(os.mkdir, [str(canary)]),)),
    "partial": lambda canary: (functools.partial(Path.touch, canary), ()),
    "runpy": lambda canary: (runpy.run_path, (str(script(canary)),)),
    "shutil": lambda canary: (shutil.copy, (str(script(canary)), str(canary))),
    "touch": lambda canary: (Path.touch, (canary,)),
}


def script(canary: Path) -> Path:
    path = canary.with_name("script.py")
    path.write_text(f"open({str(canary)!r}, 'w').close()\n")
    return path


class Payload:
    """Makes a canary file when it is unpickled."""

    def __init__(self, canary: Path, way: str):
        self.call = WAYS[way](canary)

    def __reduce__(self):
        return self.call


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "checkpoint"
    place.mkdir()
    for name in ("config.json", "tokenizer_config.json", "vocab.txt", "model.safetensors"):
        shutil.copy(GOLDEN / name, place)
    return place


@pytest.fixture
def canary(tmp_path):
    return tmp_path / "canary"


def raw_pickle(payload):
    return pickle.dumps(payload)


def old_torch_file(payload):
    """The layout before zip files: a row of pickles."""
    buffer = io.BytesIO()
    torch.save({"esm.x": payload}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def torch_file(payload):
    buffer = io.BytesIO()
    torch.save({"esm.x": torch.zeros(1), "y": payload}, buffer)
    return buffer.getvalue()


def torchscript_file(payload):
    """A zip file with the mark of a TorchScript archive, which torch.load would hand on to another reader."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(payload))
        archive.writestr("a/constants.pkl", pickle.dumps(payload))
        archive.writestr("a/version", "3\n")
    return buffer.getvalue()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("make", [raw_pickle, old_torch_file, torch_file, torchscript_file])
def test_pickles_do_not_run(folder, canary, make, way):
    content = make(Payload(canary, way))
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a file of weights alone, or damaged.*Nothing in it was run"):
        load(folder)
    assert not canary.exists()
    # The same bytes under the other name are not a safetensors file.
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="not a file of weights alone, or damaged"):
        load(folder)
    assert not canary.exists()


@pytest.mark.parametrize("way", WAYS)
def test_the_payload_is_live(canary, way):
    found = pickle.loads(raw_pickle(Payload(canary, way)))
    if hasattr(found, "close"):
        found.close()  # a pipe waits for its command
    assert canary.exists()


@pytest.mark.parametrize("name", ["model.pt", "model.ckpt", "model.pkl", "training_args.bin", "rng_state.pth"])
def test_other_pickles_are_not_opened(folder, canary, name):
    (folder / name).write_bytes(raw_pickle(Payload(canary, "os.system")))
    load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="never opened"):
        load(folder)
    assert not canary.exists()


@pytest.mark.parametrize("content", [[1, 2], {"esm.x": 3}, {1: torch.zeros(1)}, torch.zeros(3)])
def test_bin_files_of_other_things(folder, content):
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="wanted a dict of tensors by name"):
        load(folder)


def test_code_in_the_folder_does_not_run(folder, canary):
    code = f"open({str(canary)!r}, 'w').close()\n"
    for name in (
        "modeling_esm.py",
        "esm_config.py",
        "tokenization.py",
        "__init__.py",
        "conftest.py",
        "sitecustomize.py",
    ):
        (folder / name).write_text(code)
    automatic = {"AutoConfig": "esm_config.EsmConfig", "AutoModel": "modeling_esm.EsmModel"}
    for name in ("config.json", "tokenizer_config.json"):
        fields = json.loads((folder / name).read_text())
        fields |= {"auto_map": automatic, "trust_remote_code": True, "tokenizer_class": "tokenization.Evil"}
        (folder / name).write_text(json.dumps(fields))
    plain = load(GOLDEN).hidden(torch.tensor([[3, 5]]))
    assert torch.equal(load(folder).hidden(torch.tensor([[3, 5]])), plain)
    assert not canary.exists()


def header(body: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(body) if length is None else length) + body


def entry(shape, start, end, kind="F32"):
    return json.dumps({"esm.x": {"dtype": kind, "shape": shape, "data_offsets": [start, end]}}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        header(b"{}", 2**63),
        header(b"{}", 10**9),
        header(b"{" * 1000),
        header(b"\xff\xfe"),
        header(entry([2**40], 0, 2**42)),
        header(entry([4], 0, 8)) + b"\x00" * 8,
        header(entry([2**62, 4], 0, 0)),
        header(entry([4], 16, 0)) + b"\x00" * 16,
        header(entry([4], 0, 16)) + b"\x00" * 32,
        header(entry([4], 0, 16, "PICKLE")) + b"\x00" * 16,
    ],
    ids=range(12),
)
def test_hostile_safetensors(folder, content):
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="not a file of weights alone, or damaged"):
        load(folder)


def test_truncated_safetensors(folder):
    whole = (folder / "model.safetensors").read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 100):
        (folder / "model.safetensors").write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="not a file of weights alone, or damaged"):
            load(folder)


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/passwd", "sub/x.safetensors", "evil.bin", ".."])
def test_an_index_names_files_of_its_folder_only(folder, name):
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"esm.x": name}}))
    with pytest.raises(CheckpointError, match="must name .safetensors files of this folder"):
        load(folder)


def test_weights_changed_after_loading_do_not_reach_the_model(folder):
    model = load(folder)
    before = model.hidden(torch.tensor([[3, 5]]))
    file = folder / "model.safetensors"
    with file.open("r+b") as handle:
        handle.seek(len(file.read_bytes()) // 4)
        handle.write(b"\x7f" * (file.stat().st_size // 2))
    assert torch.equal(model.hidden(torch.tensor([[3, 5]])), before)


def test_not_finite_weights(folder):
    from safetensors.torch import save_file

    weights = load_file(folder / "model.safetensors")
    weights["esm.encoder.layer.1.output.dense.bias"][3] = float("nan")
    save_file({k: v.clone() for k, v in weights.items()}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="values that are not finite"):
        load(folder)


def test_huge_numbers_in_the_config(folder):
    config = json.loads((folder / "config.json").read_text())
    for field in ("hidden_size", "vocab_size", "num_hidden_layers", "max_position_embeddings"):
        (folder / "config.json").write_text(json.dumps(config | {field: 4 * 10**9}))
        with pytest.raises(CheckpointError):
            load(folder)
