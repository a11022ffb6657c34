"""Models as a whole: golden vectors, layers, batches, records, and what `load` refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.errors import CheckpointError, InputError
from embedstore.models import load, loading, record, records
from embedstore.models.architectures import ARCHITECTURES

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = ["resnet_lm", "nt_v1", "nt_v2"]
CASES = [
    (family, case["id"])
    for family in FAMILIES
    for case in json.loads((GOLDEN / family / "cases.json").read_text())["cases"]
]


@cache
def family(name):
    return (
        load(GOLDEN / name),
        json.loads((GOLDEN / name / "cases.json").read_text()),
        np.load(GOLDEN / name / "cases.npz"),
    )


def codes_of(text):
    return np.frombuffer(text.encode(), np.uint8)


def run(model, codes):
    """Return ids, spans and rows as the golden files have them: of later pieces only the kept rows."""
    ids, hidden, spans = [], [], []
    for i, piece in enumerate(model.pieces(codes)):
        rows = model.hidden(torch.from_numpy(piece.ids)[None])[0].numpy()
        first = piece.first if i else 0
        assert len(rows) == piece.first + len(piece.span)
        ids.append(piece.ids[first:])
        hidden.append(rows[first:])
        spans.append(piece.span)
    end = np.cumsum(np.concatenate(spans))
    return np.concatenate(ids), np.concatenate(hidden), np.stack([end - np.concatenate(spans), end], axis=1)


@pytest.mark.parametrize(("name", "case_id"), CASES)
def test_golden(name, case_id):
    model, cases, arrays = family(name)
    case = next(case for case in cases["cases"] if case["id"] == case_id)
    ids, hidden, spans = run(model, codes_of(case["sequence"].upper()))
    np.testing.assert_array_equal(ids, arrays[f"{case_id}/ids"])
    np.testing.assert_array_equal(spans, arrays[f"{case_id}/spans"])
    # Special tokens come first, and are as many as the rows that are not kept.
    special = arrays[f"{case_id}/special"]
    assert special[: special.sum()].all()
    assert model.pieces(codes_of(case["sequence"].upper()))[0].first == special.sum()
    np.testing.assert_allclose(hidden, arrays[f"{case_id}/hidden"], rtol=0, atol=cases["tolerance_abs"])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_gives_what_its_pieces_give(name):
    model = family(name)[0]
    random = np.random.default_rng(3)
    ids = torch.from_numpy(
        np.stack([model.pieces(codes_of("".join(random.choice(list("ACGT"), 100))))[0].ids for _ in range(5)])
    )
    together = model.hidden(ids)
    alone = torch.cat([model.hidden(row[None]) for row in ids])
    assert together.dtype == torch.float32
    assert together.shape == (5, ids.shape[1], model.width)
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)  # values go up to 25


@pytest.mark.parametrize("name", ["nt_v1", "nt_v2"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_pieces_tile_the_sequence(name, data):
    model = family(name)[0]
    most = 1000 if name == "nt_v1" else 2048
    step = (most - 1) * 6
    length = data.draw(st.sampled_from([1, 5, 6, step - 1, step, step + 1, 2 * step, 2 * step + 7]))
    random = np.random.default_rng(data.draw(st.integers(0, 100)))
    letters, share = np.array(list("ACGTNR")), data.draw(st.sampled_from([0.0, 0.001, 0.2, 1.0]))
    codes = codes_of(
        "".join(
            np.where(
                random.random(length) < share, random.choice(letters[4:], length), random.choice(letters[:4], length)
            )
        )
    )
    pieces = model.pieces(codes)
    assert sum(int(piece.span.sum()) for piece in pieces) == length
    assert all(piece.span.min() > 0 and len(piece.ids) <= most for piece in pieces)
    assert all(len(piece.ids) == piece.first + len(piece.span) for piece in pieces)
    # <cls> stands at the start of every window of `step` nucleotides and nowhere else.
    starts = np.cumsum([0] + [int(piece.span.sum()) for piece in pieces])[:-1]
    for piece, start in zip(pieces, starts, strict=True):
        assert piece.first == int(start % step == 0)
        assert (piece.ids == 3).tolist() == [True] * piece.first + [False] * len(piece.span)
    if share == 0.0:
        assert [len(piece.span) for piece in pieces[:-1]] == [most - 1] * (len(pieces) - 1)


def test_one_n_makes_a_window_too_long():
    pieces = family("nt_v1")[0].pieces(codes_of("N" + "ACGT" * 1500))
    assert [(len(p.ids), p.first) for p in pieces] == [(1000, 1), (5, 0), (3, 1)]


@pytest.mark.parametrize("name", FAMILIES)
def test_layers(name):
    last = family(name)[0]
    layers = last.record["layers"]
    ids = torch.from_numpy(last.pieces(codes_of("ACGTTGCAAC"))[0].ids)[None]
    states = [load(GOLDEN / name, layer=k).hidden(ids) for k in range(layers + 1)]
    # Running the blocks by hand from the embeddings gives the other states.
    network = last._network
    x = states[0]
    rotation = network._rotation(ids.shape[1]) if getattr(network, "rotary", False) else None
    with torch.inference_mode():
        for k, block in enumerate(network.blocks, 1):
            x = block(x, rotation) if name != "resnet_lm" else block(x)
            torch.testing.assert_close(x, states[k], rtol=0, atol=0)
        final = network.final_norm(x) if name != "resnet_lm" else x
    torch.testing.assert_close(final, last.hidden(ids), rtol=0, atol=0)
    for layer in (-2, layers + 1):
        with pytest.raises(InputError, match=f"no layer {layer}: wanted .* 1 to {layers}"):
            load(GOLDEN / name, layer=layer)


def test_embeddings_are_layer_zero():
    from safetensors.torch import load_file

    weights = load_file(GOLDEN / "nt_v2" / "model.safetensors")
    ids = torch.tensor([[3, 6, 7]])
    expected = weights["esm.embeddings.word_embeddings.weight"][ids]
    torch.testing.assert_close(load(GOLDEN / "nt_v2", layer=0).hidden(ids), expected, rtol=0, atol=0)


def test_logits_of_the_masked_lm():
    from safetensors.torch import load_file
    from torch.nn import functional

    model = family("resnet_lm")[0]
    w = load_file(GOLDEN / "resnet_lm" / "model.safetensors")
    ids = torch.tensor([[3, 4, 1, 6, 5]])
    h = functional.gelu(model.hidden(ids) @ w["cls.decoder.0.weight"].T + w["cls.decoder.0.bias"])
    h = functional.layer_norm(h, (24,), w["cls.decoder.2.weight"], w["cls.decoder.2.bias"])
    torch.testing.assert_close(
        model.logits(ids), h @ w["cls.decoder.3.weight"].T + w["cls.decoder.3.bias"], rtol=0, atol=2e-5
    )
    # A stored layer in the middle does not change them.
    torch.testing.assert_close(load(GOLDEN / "resnet_lm", layer=2).logits(ids), model.logits(ids))
    with pytest.raises(InputError, match="no masked-LM head"):
        family("nt_v1")[0].logits(ids)


def test_fingerprint_and_record(tmp_path):
    model = family("nt_v1")[0]
    assert model.fingerprint == {
        "checkpoint": model.digest,
        "architecture": "nucleotide_transformer",
        "tokenizer": "6-mers, greedy from the left; N alone; a run of other letters is one <unk>",
        "layer": "-1",
        "window": "disjoint pieces of 5994 nt, 1000 tokens",
        "precision": "float32",
    }
    assert json.loads(json.dumps(model.record)) == model.record
    assert sorted(model.record["files"]) == ["config.json", "model.safetensors", "tokenizer_config.json", "vocab.txt"]
    assert (model.name, model.width, model.record["layers"]) == ("nt_v1", 24, 2)
    # The digest follows the contents, not the place.
    shutil.copytree(GOLDEN / "nt_v1", tmp_path / "copy")
    assert load(tmp_path / "copy", name="mine").digest == model.digest
    vocabulary = (tmp_path / "copy" / "vocab.txt").read_text().split("\n")
    vocabulary[10], vocabulary[11] = vocabulary[11], vocabulary[10]
    (tmp_path / "copy" / "vocab.txt").write_text("\n".join(vocabulary))
    changed = load(tmp_path / "copy", name="mine")
    assert (changed.name, changed.digest != model.digest) == ("mine", True)


def test_convolutions_are_in_full_precision(monkeypatch):
    model = family("resnet_lm")[0]
    convolutions, seen = torch.backends.cudnn.conv, []
    before = convolutions.fp32_precision
    forward = model._network.forward
    monkeypatch.setattr(
        model._network, "forward", lambda *a: (seen.append(convolutions.fp32_precision), forward(*a))[1]
    )
    model.hidden(torch.tensor([[3]]))
    assert (seen, convolutions.fp32_precision) == (["ieee"], before)


def test_empty_sequence():
    with pytest.raises(InputError, match="empty sequence"):
        family("nt_v1")[0].pieces(codes_of(""))


def test_records():
    assert list(records())[:2] == ["onehot", "resnet_lm"]
    for name, known in records().items():
        assert known.architecture in {*ARCHITECTURES, "onehot"}
        assert known.to_dict()["id"] == name
        if known.hub:
            assert known.hub.startswith("InstaDeepAI/nucleotide-transformer-")
            assert (known.context, known.licence) == (12282 if "v2" in name else 5994, "CC-BY-NC-SA-4.0")
    with pytest.raises(InputError, match="Did you mean 'nt_500m_1000g'"):
        record("nt_500m_1000genomes")


def test_load_of_a_known_model():
    model = load("resnet_lm", checkpoint=GOLDEN / "resnet_lm")
    assert (model.name, model.record["id"], model.record["checkpoint"]) == (
        "resnet_lm",
        "resnet_lm",
        str(GOLDEN / "resnet_lm"),
    )
    with pytest.raises(CheckpointError, match="not a checkpoint of nt_500m_1000g: .*'width': 24.*'width': 1280"):
        load("nt_500m_1000g", checkpoint=GOLDEN / "nt_v1")
    with pytest.raises(CheckpointError, match="not a checkpoint of resnet_lm"):
        load("resnet_lm", checkpoint=GOLDEN / "nt_v1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "nt_v2_50m_multispecies"}, "Did you mean 'nt_v2_50m_multi_species'"),
        ({"model": "no/such/folder"}, "neither a known model nor a folder"),
        ({"model": "mine", "checkpoint": GOLDEN / "nt_v1"}, "No model is called 'mine'"),
        ({"model": "onehot"}, "computes it from its sequences"),
        ({"model": "resnet_lm"}, "give checkpoint="),
        ({"model": "resnet_lm", "checkpoint": "/no/such"}, "is not a folder"),
        ({"model": "nt_v2_50m_multi_species"}, "give revision="),
        ({"model": "nt_v2_50m_multi_species", "revision": "main"}, "branches and tags"),
        ({"model": "InstaDeepAI/agro-nucleotide-transformer-1b"}, "give revision="),
        ({"model": GOLDEN / "nt_v1", "revision": "0" * 40}, "is a local folder"),
        ({"model": GOLDEN / "nt_v1", "device": "cuda:99"}, "Cannot use the device"),
        ({"model": GOLDEN / "nt_v1", "device": "toaster"}, "Cannot use the device"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        load(**arguments)


def test_importing_the_package_does_not_import_torch():
    code = (
        "import sys, embedstore.models as m; m.records(); print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


class Broken(torch.nn.Module):
    """A network that fails the trial in one way."""

    width, layers = 4, 1

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def forward(self, ids, layer):
        rows = torch.nn.functional.one_hot(ids % 4, 4).float()
        if self.fault == "constant":
            return torch.ones_like(rows)
        if self.fault == "nan":
            return rows / 0
        return rows[:, 1:] if self.fault == "short" else rows


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("constant", "does not change"),
        ("nan", "not finite"),
        ("short", "gives the shape"),
        ("unknown", "does not know A, C, G, T"),
    ],
)
def test_trial(monkeypatch, fault, message):
    spec = ARCHITECTURES["nucleotide_transformer"]
    monkeypatch.setitem(ARCHITECTURES, "nucleotide_transformer", spec._replace(build=lambda _: Broken(fault)))
    if fault == "unknown":
        import dataclasses

        def all_unknown(folder):
            tokenizer = spec.tokenizer(folder)
            return dataclasses.replace(tokenizer, word_ids=np.zeros_like(tokenizer.word_ids))

        monkeypatch.setitem(ARCHITECTURES, "nucleotide_transformer", spec._replace(tokenizer=all_unknown))
    with pytest.raises(CheckpointError, match=f"fails its trial: .*{message}"):
        load(GOLDEN / "nt_v1")


def test_trial_of_spans(monkeypatch):
    model = family("nt_v1")[0]
    windows = model._windows._replace(cut=lambda codes: model.pieces(codes[:-1]))
    monkeypatch.setattr(loading, "Model", lambda *a, **k: type(model)(a[0], a[1], windows, **k))
    with pytest.raises(CheckpointError, match="do not tile"):
        load(GOLDEN / "nt_v1")
