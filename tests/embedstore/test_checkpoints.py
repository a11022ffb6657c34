"""Reading checkpoint folders: files, keys, digests, the hub."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from embedstore.errors import CheckpointError
from embedstore.models import load
from embedstore.models.checkpoints import read_checkpoint

GOLDEN = Path(__file__).parents[1] / "golden" / "nt_v1"
FILES = ("config.json", "tokenizer_config.json", "vocab.txt", "model.safetensors")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path):
    for name in FILES:
        shutil.copy(GOLDEN / name, tmp_path)
    return tmp_path


@pytest.fixture
def weights():
    return load_file(GOLDEN / "model.safetensors")


def test_digests(folder):
    checkpoint = read_checkpoint(folder)
    assert checkpoint.digests == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    lines = "".join(f"{name} {checkpoint.digests[name]}\n" for name in sorted(FILES))
    assert checkpoint.digest == hashlib.sha256(lines.encode()).hexdigest()


def test_every_key_is_needed_or_known_to_be_needless(folder, weights):
    needless = re.compile(r"contact_head\.|lm_head\.decoder\.")
    for name in [key for key in weights if "layer.1" not in key]:
        save_file({k: v for k, v in weights.items() if k != name}, folder / "model.safetensors")
        if needless.search(name):
            load(folder)
        else:
            with pytest.raises(CheckpointError, match=rf"1 problems.*\n  missing: {re.escape(name)} \["):
                load(folder)


def test_unexpected_and_misshapen_keys_are_all_named(folder, weights):
    weights["esm.encoder.layer.0.attention.self.adapter"] = torch.zeros(2)
    weights["esm.embeddings.position_ids"] = torch.arange(5)
    weights["esm.encoder.emb_layer_norm_after.bias"] = torch.zeros(25)
    weights["esm.encoder.emb_layer_norm_after.weight"] = torch.ones(24, dtype=torch.int32)
    del weights["esm.encoder.layer.1.output.dense.bias"]
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    message = str(caught.value)
    assert "4 problems" in message
    assert "missing: esm.encoder.layer.1.output.dense.bias [24]" in message
    assert "unexpected: esm.encoder.layer.0.attention.self.adapter [2]" in message
    assert "wrong: esm.encoder.emb_layer_norm_after.bias is [25] torch.float32, wanted [24] of floats" in message
    assert "wrong: esm.encoder.emb_layer_norm_after.weight is [24] torch.int32" in message


def test_long_lists_are_cut(folder):
    save_file({f"x{i}": torch.zeros(1) for i in range(30)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"\.\.\.$") as caught:
        load(folder)
    assert len(str(caught.value).splitlines()) == 22


def test_half_precision_and_bin_and_shards_give_the_same(folder, weights):
    ids = torch.tensor([[3, 5, 6, 7]])
    expected = load(folder).hidden(ids)
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert torch.equal(load(folder).hidden(ids), expected)
    (folder / "pytorch_model.bin").unlink()
    names = sorted(weights)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for part, keys in parts.items():
        save_file({key: weights[key] for key in keys}, folder / part)
    index = {"weight_map": {key: part for part, keys in parts.items() for key in keys}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    sharded = load(folder)
    assert torch.equal(sharded.hidden(ids), expected)
    assert {"a.safetensors", "b.safetensors"} <= set(sharded.record["files"])
    # Safetensors come first, whatever else is there.
    torch.save({}, folder / "pytorch_model.bin")
    assert load(folder).digest == sharded.digest
    for file in folder.glob("*.safetensors*"):
        file.unlink()
    save_file({key: value.half() for key, value in weights.items()}, folder / "model.safetensors")
    halved = load(folder).hidden(ids)
    assert halved.dtype == torch.float32
    assert 0 < (halved - expected).abs().max() < 0.1


def test_shards_that_are_missing_or_repeat_keys(folder, weights):
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}))
    with pytest.raises(CheckpointError, match=r"b.safetensors: no such file, but the checkpoint's index names it"):
        load(folder)
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
    with pytest.raises(CheckpointError, match="in another file of this checkpoint too"):
        load(folder)
    for content in ("{}", '{"weight_map": {}}', '{"weight_map": ["a.safetensors"]}', '{"weight_map": {"x": 3}}'):
        index.write_text(content)
        with pytest.raises(CheckpointError, match="weight_map must name .safetensors files of this folder"):
            load(folder)


def test_gamma_and_beta(folder, weights):
    expected = load(folder).hidden(torch.tensor([[3, 5]]))
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {re.sub("|".join(names), lambda m: names[m[0]], key): value for key, value in weights.items()}
    save_file(renamed, folder / "model.safetensors")
    assert torch.equal(load(folder).hidden(torch.tensor([[3, 5]])), expected)
    save_file(weights | {"esm.encoder.layer.0.LayerNorm.gamma": torch.zeros(24)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="both gamma and weight"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot read this as JSON"),
        ("[]", "wanted a JSON object, found a list"),
        ("[" * 100_000, "cannot read this as JSON"),
    ],
)
def test_damaged_config(folder, content, message):
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_missing_files(folder):
    (folder / "model.safetensors").rename(folder / "weights.pt")
    with pytest.raises(CheckpointError, match=r"no weights that can be read.*'weights.pt'"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match="config.json: no such file"):
        load(folder)


def test_unknown_architecture(folder):
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    with pytest.raises(CheckpointError, match=r"LlamaForCausalLM.*known here: nucleotide_transformer, esm, .*prott5"):
        load(folder)


def test_vocabulary_of_another_model(folder):
    shutil.copy(GOLDEN.parent / "nt_v2" / "vocab.txt", folder)
    with pytest.raises(CheckpointError, match="ids up to 4106, the model has 4105 rows"):
        load(folder)


class Hub(BaseHTTPRequestHandler):
    """The few answers of the hub that a download needs."""

    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        self.asked.append(path)
        name = path.removeprefix(f"/org/tiny/resolve/{COMMIT}/")
        if path.startswith(f"/api/models/org/tiny/tree/{COMMIT}"):
            entries = [{"type": "file", "path": n, "size": len(b), "oid": "0" * 40} for n, b in self.files.items()]
            self.answer(json.dumps(entries).encode(), "application/json")
        elif path.startswith("/api/models/org/tiny"):
            siblings = [{"rfilename": n} for n in self.files]
            body = {"_id": "1", "id": "org/tiny", "modelId": "org/tiny", "sha": COMMIT, "siblings": siblings}
            self.answer(json.dumps(body).encode(), "application/json")
        elif name in self.files:
            self.answer(self.files[name], "application/octet-stream")
        else:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def answer(self, body, kind):
        self.send_response(200)
        headers = {"Content-Type": kind, "Content-Length": len(body), "ETag": f'"{hashlib.sha256(body).hexdigest()}"'}
        for key, value in (headers | {"X-Repo-Commit": COMMIT}).items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub on this machine, with a cache of its own."""
    import huggingface_hub.constants as constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Hub.files, Hub.asked = {name: (GOLDEN / name).read_bytes() for name in FILES}, []
    Hub.files |= {"modeling_esm.py": b"raise SystemExit", "README.md": b"", "pytorch_model.bin": b"pickle"}
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


def fetched(hub):
    return {path.rsplit("/", 1)[1] for path in hub.asked if "/resolve/" in path}


def test_hub(hub):
    model = load("org/tiny", revision=COMMIT)
    assert (model.name, model.record["checkpoint"], model.record["revision"]) == ("tiny", "org/tiny", COMMIT)
    assert model.digest == load(GOLDEN).digest
    # Neither code nor pickles are even downloaded.
    assert fetched(hub) == set(FILES)
    hub.files, hub.asked[:] = {}, []
    assert load("org/tiny", revision=COMMIT).digest == model.digest


def test_hub_without_safetensors(hub, weights, tmp_path):
    torch.save(weights, tmp_path / "w.bin")
    del hub.files["model.safetensors"]
    hub.files["pytorch_model.bin"] = (tmp_path / "w.bin").read_bytes()
    model = load("org/tiny", revision=COMMIT)
    assert "pytorch_model.bin" in model.record["files"]


def test_hub_out_of_reach(hub, monkeypatch):
    hub.files = {"README.md": b""}
    with pytest.raises(CheckpointError, match="config.json: no such file"):
        load("org/tiny", revision=COMMIT)
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=rf"Cannot fetch org/other at {COMMIT}.*hf download org/other"):
        load("org/other", revision=COMMIT)
