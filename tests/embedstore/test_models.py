"""Models as a whole: golden vectors of every family through `load`, layers, batches, BEND's rules, precisions."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.errors import InputError
from embedstore.models import load

GOLDEN = Path(__file__).parents[1] / "golden"
FAMILIES = sorted(path.parent.name for path in GOLDEN.glob("*/cases.json"))
PROTEIN = {"esm1b", "esm2", "esmc", "prott5"}
CASES = [
    (family, case["id"], "")
    for family in FAMILIES
    for case in json.loads((GOLDEN / family / "cases.json").read_text())["cases"]
    if "shorter than one word" not in case.get("optional", "")
]
CASES += [
    (family, case["id"], variant)
    for family in ("hyenadna", "gena_bert_last_ln")
    for case in json.loads((GOLDEN / family / "cases.json").read_text())["cases"]
    for variant in case.get("variants", [])
]
# The golden rows of these are in the order of BEND's or another published code.
RULES = {"": "authors", "bend": "bend", "before_last_ln": "bend"}


@cache
def family(name, rules="authors"):
    return (
        load(GOLDEN / name, rules=rules),
        json.loads((GOLDEN / name / "cases.json").read_text()),
        np.load(GOLDEN / name / "cases.npz"),
    )


def codes_of(text):
    return np.frombuffer(text.upper().encode(), np.uint8)


def letters_of(name, length, seed=0):
    """Return letters that a model takes: whole codons for those that want them."""
    alphabet = "ACDEFGHIKLMNPQRSTVWY" if name in PROTEIN else "ACGT"
    rng = np.random.default_rng(seed)
    return codes_of("".join(rng.choice(list(alphabet), length - length % 3 if name == "calm" else length)))


def rows_of(model, codes):
    """Return all ids and rows of each piece, and what is kept of them."""
    pieces = model.pieces(codes)
    hidden = [model.hidden(torch.from_numpy(piece.ids)[None])[0].numpy() for piece in pieces]
    return pieces, hidden


def expected(arrays, case_id, variant, what):
    name = f"{case_id}/{variant}/{what}" if variant else f"{case_id}/{what}"
    return arrays[name] if name in arrays else arrays[f"{case_id}/{what}"]


@pytest.mark.parametrize(("name", "case_id", "variant"), CASES)
def test_golden(name, case_id, variant):
    model, cases, arrays = family(name, RULES[variant])
    case = next(case for case in cases["cases"] if case["id"] == case_id)
    pieces, hidden = rows_of(model, codes_of(case["sequence"]))
    ids, special = (expected(arrays, case_id, variant, what) for what in ("ids", "special"))
    wanted = expected(arrays, case_id, variant, "hidden")
    close = {"rtol": 0, "atol": cases["tolerance_abs"]}
    if len(pieces) == 1:
        np.testing.assert_array_equal(pieces[0].ids, ids)
        np.testing.assert_allclose(hidden[0], wanted, **close)
    kept = [(piece.ids, rows) for piece, rows in zip(pieces, hidden, strict=True)]
    kept = [
        (i[p.first : p.first + len(p.span)], r[p.first : p.first + len(p.span)])
        for p, (i, r) in zip(pieces, kept, strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate([i for i, _ in kept]), ids[~special])
    np.testing.assert_allclose(np.concatenate([r for _, r in kept]), wanted[~special], **close)
    span = np.concatenate([piece.span for piece in pieces])
    end = np.cumsum(span)
    assert end[-1] == case["length"]
    if name != "dnabert":  # its k-mers overlap; the letters that each stands for are checked below
        np.testing.assert_array_equal(np.stack([end - span, end], axis=1), arrays[f"{case_id}/spans"])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_batch_gives_what_its_pieces_give(name):
    model = family(name)[0]
    pieces = [model.pieces(letters_of(name, 99, seed))[0].ids for seed in range(4)]
    shortest = min(map(len, pieces))
    ids = torch.from_numpy(np.stack([piece[:shortest] for piece in pieces]))
    together = model.hidden(ids)
    alone = torch.cat([model.hidden(row[None]) for row in ids])
    assert together.dtype == torch.float32
    assert together.shape == (4, shortest, model.width)
    scale = alone.abs().max().item()
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5 * max(1, scale))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_padded_batch_gives_what_its_pieces_give(name):
    model = family(name)[0]
    pieces = [model.pieces(letters_of(name, length))[0].ids for length in (99, 9, 42, 60)]
    lengths = torch.tensor([len(piece) for piece in pieces])
    # Padding with a known token: nothing but `lengths` says that it is none.
    ids = torch.full((4, max(lengths)), int(pieces[0][2]))
    for row, piece in zip(ids, pieces, strict=True):
        row[: len(piece)] = torch.from_numpy(piece)
    if not model.pads:
        assert model.record["architecture"] in ("gena_bigbird", "caduceus")
        with pytest.raises(InputError, match="cannot take padded sequences"):
            model.hidden(ids, lengths)
        with pytest.raises(InputError, match="cannot take padded sequences"):
            model.logits(ids, lengths)
        return
    together = model.hidden(ids, lengths)
    for rows, piece in zip(together, pieces, strict=True):
        alone = model.hidden(torch.from_numpy(piece)[None])[0]
        scale = alone.abs().max().item()
        torch.testing.assert_close(rows[: len(piece)], alone, rtol=0, atol=1e-5 * max(1, scale))
    if model._network.head is not None:
        logits = model.logits(ids, lengths)[1, : lengths[1]]
        alone = model.logits(torch.from_numpy(pieces[1])[None])[0]
        torch.testing.assert_close(logits, alone, rtol=0, atol=1e-5 * max(1, alone.abs().max().item()))


@pytest.mark.parametrize("name", FAMILIES)
def test_layers(name):
    ids = torch.from_numpy(family(name)[0].pieces(letters_of(name, 30))[0].ids)[None]
    model = family(name)[0]
    layers = model.record["layers"]
    states = [load(GOLDEN / name, layer=k).hidden(ids) for k in range(layers + 1)]
    network = model._network
    with torch.inference_mode():
        by_hand = list(network.states(ids))
        assert len(by_hand) == layers + 1
        for ours, state in zip(states, by_hand, strict=True):
            torch.testing.assert_close(ours, state, rtol=0, atol=0)
        torch.testing.assert_close(network.last(by_hand[-1]), model.hidden(ids), rtol=0, atol=0)
    widths = [state.shape[-1] for state in states]
    assert widths == [network.state_width(k) for k in range(layers + 1)]
    if len(set(widths[1:])) > 1:
        with pytest.raises(InputError, match="different channels, so they have no mean: {1: 24, 2: 24, 3: 16}"):
            load(GOLDEN / name, layer="mean")
        return
    mean = load(GOLDEN / name, layer="mean")
    torch.testing.assert_close(mean.hidden(ids), torch.stack(states[1:]).mean(0), rtol=1e-5, atol=1e-5)
    first_two = load(GOLDEN / name, layer="1-2") if layers > 1 else mean
    torch.testing.assert_close(
        first_two.hidden(ids), torch.stack(states[1 : min(3, layers + 1)]).mean(0), rtol=1e-5, atol=1e-5
    )
    assert first_two.record["layer"] == f"mean of 1-{min(2, layers)}"
    for layer in (-2, layers + 1, "1-99", "last"):
        with pytest.raises(InputError, match=f"no layer .*: wanted .* 1 to {layers}"):
            load(GOLDEN / name, layer=layer)


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_do_not_depend_on_the_stored_layer(name):
    model = family(name)[0]
    ids = torch.from_numpy(model.pieces(letters_of(name, 30))[0].ids)[None]
    if name == "prott5":
        with pytest.raises(InputError, match="no language-model head"):
            model.logits(ids)
        return
    logits = model.logits(ids)
    assert logits.shape[:2] == ids.shape
    torch.testing.assert_close(load(GOLDEN / name, layer=1).logits(ids), logits, rtol=0, atol=0)


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


def nucleotides(model, codes):
    """Return a row per letter."""
    return np.concatenate(
        [
            np.repeat(rows[piece.first : piece.first + len(piece.span)], piece.span, axis=0)
            for piece, rows in zip(*rows_of(model, codes), strict=True)
        ]
    )


@pytest.mark.parametrize("length", [6, 7, 12, 60, 516, 517, 530, 1200])
def test_dnabert_rows_of_letters(length):
    """The k-mer whose centre (its third letter) is the nucleotide, and BEND's order, from the rows of all k-mers."""
    codes = letters_of("dnabert", length)
    tokens = np.concatenate(
        [
            rows[piece.first : piece.first + len(piece.span)]
            for piece, rows in zip(*rows_of(family("dnabert")[0], codes), strict=True)
        ]
    )
    assert len(tokens) == length - 5
    centre = np.clip(np.arange(length) - 2, 0, length - 6)
    np.testing.assert_allclose(nucleotides(family("dnabert")[0], codes), tokens[centre], rtol=0, atol=1e-6)
    if length == 12:
        order = [0, 0, 1, 2, 3, 4, 5, 6, 0, 6, 6, 6]
        np.testing.assert_allclose(nucleotides(family("dnabert", "bend")[0], codes), tokens[order], rtol=0, atol=1e-6)
    if length > 12:
        bend = nucleotides(family("dnabert", "bend")[0], codes)
        assert bend.shape == (length, 24)
        np.testing.assert_allclose(bend[length - 4], tokens[0], rtol=0, atol=1e-6)  # the defect
        np.testing.assert_allclose(bend[10], tokens[9], rtol=0, atol=1e-6)
    if length in (516, 517):  # 513 and 514 ids with [CLS] and [SEP]: a piece of [SEP] alone is not run
        assert len(family("dnabert")[0].pieces(codes)) == length - 515


def test_embeddings_are_layer_zero():
    from safetensors.torch import load_file

    weights = load_file(GOLDEN / "nt_v2" / "model.safetensors")
    ids = torch.tensor([[3, 6, 7]])
    expected_rows = weights["esm.embeddings.word_embeddings.weight"][ids]
    torch.testing.assert_close(load(GOLDEN / "nt_v2", layer=0).hidden(ids), expected_rows, rtol=0, atol=0)


def test_fingerprint_and_record(tmp_path):
    model = family("nt_v1")[0]
    assert model.fingerprint == {
        "checkpoint": model.digest,
        "architecture": "nucleotide_transformer",
        "tokenizer": "6-mers, greedy from the left; N alone; a run of other letters is one <unk>",
        "layer": "-1",
        "window": "disjoint windows of 5994 letters, cut after every 1000 ids",
        "precision": "float32",
        "rules": "authors",
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


@pytest.mark.parametrize(("precision", "least", "most"), [("bfloat16", 1e-4, 0.2), ("float16", 1e-5, 0.05)])
@pytest.mark.parametrize("name", FAMILIES)
def test_precision(name, precision, least, most):
    codes = letters_of(name, 60)
    exact = nucleotides(family(name)[0], codes)
    model = load(GOLDEN / name, precision=precision)
    rows = nucleotides(model, codes)
    assert (rows.dtype, model.record["precision"], model.fingerprint["precision"]) == (np.float32, precision, precision)
    error = np.linalg.norm(rows - exact) / np.linalg.norm(exact)
    assert least < error < most  # it is another arithmetic, and not another function


def test_float32_is_float32(monkeypatch):
    """Whatever the user has set before, products are not rounded; and the setting is restored."""
    model = family("resnet_lm")[0]
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn)
    before = [switch.fp32_precision for switch in switches]
    seen = []
    forward = model._network.forward
    monkeypatch.setattr(
        model._network, "forward", lambda *a: (seen.extend(s.fp32_precision for s in switches), forward(*a))[1]
    )
    model.hidden(torch.tensor([[3]]))
    assert (seen, [switch.fp32_precision for switch in switches]) == (["ieee"] * 3, before)
