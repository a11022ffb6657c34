"""Log probabilities of letters against loops over candidates, transformers' classes, cross entropy and known scores."""

from __future__ import annotations

import json
import shutil
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from encoders import GOLDEN, REMOVED, change_config, change_weights, encoder, native
from letters import codes_of
from safetensors.torch import load_file, save_file
from toys import random_sequences

import embedstore
from embedstore import tasks
from embedstore.errors import CheckpointError, FingerprintError, InputError
from embedstore.models import load
from embedstore.models.caduceus import build_caduceus
from embedstore.models.checkpoints import read_checkpoint
from embedstore.models.convnet import build_convnet
from embedstore.models.flops import flops
from embedstore.models.function import function_model
from embedstore.models.letters import UNKNOWN, is_causal, letter_model
from embedstore.models.windows import by_letters
from embedstore.tokenizers import KmerTokenizer

# Ids as each family publishes them (facts of the tokenizers' files), by the word.
SINGLE = {"[MASK]": 3, "A": 7, "C": 8, "G": 9, "T": 10}
BEND = {"[MASK]": 1, "A": 3, "C": 4, "G": 5, "T": 6}
NO_MASK, BYTES = "has no mask token", "no fixed number of letters"
MASKED = ("nt_v1", "nt_v2", "calm", "caduceus_ps", "caduceus_ph", "caduceus_ps_unfused", "resnet_lm")
CAUSAL = ("hyenadna", "awd_lstm")


def vocabulary(family):
    """Id of every word, and of the mask, as "[MASK]"; words of CaLM are in letters of DNA."""
    if family in ("nt_v1", "nt_v2", "calm"):
        words = (GOLDEN / family / "vocab.txt").read_text().split()
        return {word.replace("U", "T") if "<" not in word else word: i for i, word in enumerate(words)} | {
            "[MASK]": words.index("<mask>")
        }
    return BEND if family in ("resnet_lm", "awd_lstm") else SINGLE


def word_length(family):
    return {"nt_v1": 6, "nt_v2": 6, "calm": 3}.get(family, 1)


def surroundings(family):
    """Special tokens before and after a sequence."""
    ids = vocabulary(family)
    return {"nt_v1": ([ids.get("<cls>")], []), "nt_v2": ([ids.get("<cls>")], []), "hyenadna": ([], [1])}.get(
        family, ([ids["<cls>"]], [ids["<eos>"]]) if family == "calm" else ([], [])
    )


@cache
def other_code(family):
    """What gives the scores by other code than `Model`: transformers' class, or the bare network."""
    if family == "nt_v1":
        theirs = native(family)
        return lambda ids: theirs(ids).logits
    builders = {"resnet_lm": build_convnet} | dict.fromkeys(MASKED[3:6], build_caduceus)
    network = builders[family](read_checkpoint(GOLDEN / family)).eval() if family in builders else encoder(family)
    return lambda ids: network.logits(network(ids))


def rows_of(model, text):
    """Rows of a sequence, piece after piece, and their spans."""
    pieces = model.pieces(codes_of(text))
    with torch.inference_mode():
        hidden = [model.hidden(torch.from_numpy(p.ids)[None])[0, p.first :][: len(p.span)] for p in pieces]
    return torch.cat(hidden).numpy(), np.concatenate([p.span for p in pieces])


def by_hand(family, text, row, masked):
    """Log probabilities at one token of a sequence of whole words, candidate by candidate."""
    ids, k = vocabulary(family), word_length(family)
    words = [text[i : i + k] for i in range(0, len(text), k)]
    before, after = surroundings(family)
    tokens = [*before, *(ids[word] for word in words), *after]
    if masked:
        tokens[len(before) + row] = ids["[MASK]"]
    with torch.no_grad():
        probability = other_code(family)(torch.tensor([tokens]))[0, len(before) + row].double().log_softmax(-1)
    word = words[row]
    return [float(probability[ids[word[:i] + letter + word[i + 1 :]]]) for i in range(k) for letter in "ACGT"]


# ---- models that see both sides -----------------------------------------------------------------------------


@pytest.mark.parametrize("family", MASKED)
def test_rows_are_the_candidates_one_by_one(family):
    k, (text,) = word_length(family), random_sequences([48], seed=3)
    model = letter_model(load(GOLDEN / family))
    assert (model.name, model.width, model.packs) == (f"{family}.letters", 4 * k, False)
    for row in (0, 3, 48 // k - 1):
        found, span = rows_of(model, text)
        assert (span == k).all()
        np.testing.assert_allclose(found[row], by_hand(family, text, row, masked=False), rtol=0, atol=2e-5)
        for place in range(k):
            letter = row * k + place
            hidden = text[:letter] + "N" + text[letter + 1 :]
            found, span = rows_of(model, hidden)
            assert (span == k).all()
            # The letter that is masked is not known, but the others of the word are. Beside them it counts as A.
            here, expected = slice(4 * place, 4 * place + 4), by_hand(family, text, row, masked=True)
            np.testing.assert_allclose(found[row, here], expected[here], rtol=0, atol=2e-5)
            with_a = by_hand(family, hidden.replace("N", "A"), row, masked=True)
            np.testing.assert_allclose(found[row], with_a, rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", ["nt_v1", "nt_v2"])
def test_places_of_a_kmer_are_those_of_tokenising_again(family):
    """Channel 4 * place + letter is the id that the tokenizer itself gives with that letter there."""
    model, ids = load(GOLDEN / family), vocabulary(family)
    (text,) = random_sequences([21], seed=8)  # three words, and three single letters at the end
    masked = letter_model(model)
    for position in (6, 7, 10, 11, 18, 20):
        hidden = text[:position] + "N" + text[position + 1 :]
        found, span = rows_of(masked, hidden)
        assert span.tolist() == [6, 6, 6, 1, 1, 1]
        row = int(np.searchsorted(np.cumsum(span), position, side="right"))
        place = position - int(np.cumsum(span)[row] - span[row])
        tokens = [model.pieces(codes_of(text[:position] + x + text[position + 1 :]))[0].ids for x in "ACGT"]
        assert len({tuple(np.delete(t, 1 + row)) for t in tokens}) == 1  # the letter changes that token alone
        seen = tokens[0].copy()
        seen[1 + row] = ids["[MASK]"]
        probability = model.logits(torch.from_numpy(seen)[None])[0, 1 + row].double().log_softmax(-1)
        expected = [float(probability[t[1 + row]]) for t in tokens]
        np.testing.assert_allclose(found[row, 4 * place : 4 * place + 4], expected, rtol=0, atol=2e-5)
        if span[row] == 1:
            assert found[row, 4:] == pytest.approx(UNKNOWN)


def test_every_n_is_a_mask_and_kmers_keep_their_frame():
    model, ids = letter_model(load(GOLDEN / "nt_v1")), vocabulary("nt_v1")
    (piece,) = model.pieces(codes_of("ACGTNCNNNNNNACGTACGTAN"))
    size = int(piece.ids[-1]) - ids["A"]
    assert size > max(ids[word] for word in ("TTTTTT", "N", "<cls>", "<mask>"))
    words = [ids["<cls>"], size + ids["ACGTAC"], size + ids["AAAAAA"], ids["ACGTAC"], ids["G"], ids["T"], ids["A"]]
    assert piece.ids.tolist() == [*words, size + ids["A"]]
    assert piece.span.tolist() == [6, 6, 6, 1, 1, 1, 1]
    # Other letters are what the tokenizer makes of them; rows that nobody can ask for are finite all the same.
    found, span = rows_of(model, "RYACGTACN")
    assert span.tolist() == [2, 6, 1]
    assert found[0] == pytest.approx(UNKNOWN)
    assert np.isfinite(found).all()
    plain = "ACGTAC" * 4
    assert (
        model.pieces(codes_of(plain))[0].ids.tolist() == load(GOLDEN / "nt_v1").pieces(codes_of(plain))[0].ids.tolist()
    )


def test_tokens_of_neighbouring_windows_are_masked_too():
    """Where windows overlap, a token can be context in one and a row in another."""
    model = load(GOLDEN / "caduceus_ph")
    model._windows = by_letters(by_letters_tokenizer(model), 40, overlap=10)
    (text,) = random_sequences([100], seed=2)
    masked = letter_model(model)
    hidden = text[:32] + "N" + text[33:]  # in both windows: [0, 40) and [30, 70)
    one, other, *rest = masked.pieces(codes_of(hidden))
    plain = model.pieces(codes_of(text))
    for piece, twin, place in ((one, plain[0], 32), (other, plain[1], 2)):
        (marked,) = np.flatnonzero(piece.ids != twin.ids)
        assert marked == place
    assert one.first + len(one.span) == 35  # the other window's is context
    for piece, twin in zip(rest, plain[2:], strict=True):
        np.testing.assert_array_equal(piece.ids, twin.ids)


def by_letters_tokenizer(model):
    from embedstore.models.letters import _tokenizer

    return _tokenizer(model)[0]


def test_overlapping_windows_keep_whole_kmers():
    """A row that stood for a part of a token could not say which of its letters are meant."""
    model = load(GOLDEN / "nt_v1")
    tokenizer = by_letters_tokenizer(model)
    assert isinstance(tokenizer, KmerTokenizer)
    model._windows = by_letters(tokenizer, 60, overlap=15)
    masked = letter_model(model)
    (text,) = random_sequences([151], seed=5)
    for hidden in (text, text[:44] + "N" + text[45:], text[:40] + "N" * 20 + text[60:]):
        pieces = masked.pieces(codes_of(hidden))
        assert len(pieces) == 4
        assert np.concatenate([piece.span for piece in pieces]).tolist() == [6] * 25 + [1]


# ---- known scores -------------------------------------------------------------------------------------------


def constant(family, folder, bias, weight, scores):
    """A checkpoint whose head gives the same scores everywhere."""
    for path in (GOLDEN / family).iterdir():
        if path.suffix in (".json", ".txt", ".safetensors") and not path.name.startswith("cases"):
            shutil.copy(path, folder)
    zeros = torch.zeros_like(load_file(folder / "model.safetensors")[weight])
    change_weights(folder, {bias: scores, weight: zeros})
    return load(folder, name=family)


def test_constant_scores_of_single_letters(tmp_path):
    share = torch.tensor([0.02, 0.03, 0.05, 0.4, 0.3, 0.15, 0.05])  # of [PAD], [MASK], [UNK], a, c, g, t
    model = constant("resnet_lm", tmp_path, "cls.decoder.3.bias", "cls.decoder.3.weight", share.log() + 3)
    found, _ = rows_of(letter_model(model), "ACGNT")
    # Over the whole vocabulary: the four do not add up to 1.
    np.testing.assert_allclose(np.exp(found), np.tile([0.4, 0.3, 0.15, 0.05], (5, 1)), rtol=1e-6)


def test_constant_scores_of_words(tmp_path):
    ids = vocabulary("nt_v1")
    scores = torch.randn(4105, generator=torch.Generator().manual_seed(1))
    model = constant("nt_v1", tmp_path, "lm_head.bias", "lm_head.decoder.weight", scores)
    expected = scores.double().log_softmax(-1)
    found, _ = rows_of(letter_model(model), "GATTACCAN")
    words = [f"{'GATTAC'[:i]}{x}{'GATTAC'[i + 1 :]}" for i in range(6) for x in "ACGT"]
    np.testing.assert_allclose(found[0], [expected[ids[w]] for w in words], rtol=1e-6)
    single = [expected[ids[x]] for x in "ACGT"]
    for row in (1, 2, 3):
        np.testing.assert_allclose(found[row], [*single, *[np.log(0.25)] * 20], rtol=1e-6)


# ---- models that read from the left ----------------------------------------------------------------------------


@pytest.mark.parametrize("family", CAUSAL)
def test_rows_of_causal_models_are_those_of_the_letter_before(family):
    model, ids, (text,) = load(GOLDEN / family), vocabulary(family), random_sequences([40], seed=6)
    tokens = torch.tensor([[ids[x] for x in text]])
    probability = model.logits(tokens)[0].double().log_softmax(-1).numpy()
    found, span = rows_of(letter_model(model), text)
    assert (span == 1).all()
    np.testing.assert_allclose(found[0], np.log(0.25), rtol=1e-6)
    np.testing.assert_allclose(found[1:], probability[:-1, [ids[x] for x in "ACGT"]], rtol=0, atol=2e-5)
    own, _ = rows_of(letter_model(model, "sequence"), text)
    assert own.shape == (40, 1)
    np.testing.assert_allclose(own[:, 0], found[range(40), ["ACGT".index(x) for x in text]], rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", CAUSAL)
def test_the_sum_of_a_sequence_is_the_loss_of_a_causal_head(family):
    """Scores and labels shifted by one against each other, mean of the cross entropy: what transformers calls loss."""
    model, ids = load(GOLDEN / family), vocabulary(family)
    (text,) = random_sequences([300], seed=9)
    tokens = torch.tensor([[ids[x] for x in text]])
    loss = torch.nn.functional.cross_entropy(model.logits(tokens)[0, :-1].double(), tokens[0, 1:])
    found, _ = rows_of(letter_model(model, "sequence"), text)
    assert found.astype(np.float64).sum() == pytest.approx(-float(loss) * 299 + np.log(0.25), abs=1e-3)


@pytest.mark.parametrize("kind", ["letters", "sequence"])
@pytest.mark.parametrize("family", CAUSAL)
def test_later_letters_change_nothing(family, kind):
    model = letter_model(load(GOLDEN / family), kind)
    one, other = random_sequences([60, 60], seed=10)
    found, _ = rows_of(model, one)
    mixed, _ = rows_of(model, one[:30] + other[30:])
    np.testing.assert_allclose(mixed[:30], found[:30], rtol=0, atol=1e-5)
    # Row 30 says what is expected at letter 30; as the sequence's own probability it depends on the letter there.
    same = np.abs(mixed[30] - found[30]).max() < 1e-5
    assert same == (kind == "letters" or one[30] == other[30])
    assert np.abs(mixed[31:] - found[31:]).max() > 1e-3
    short, _ = rows_of(model, one[:30])
    np.testing.assert_allclose(short, found[:30], rtol=0, atol=1e-5)


def test_every_piece_begins_anew():
    model = letter_model(load(GOLDEN / "hyenadna"), "sequence")  # windows of 1,024 letters
    (text,) = random_sequences([2100], seed=11)
    pieces = model.pieces(codes_of(text))
    assert [len(piece.span) for piece in pieces] == [1024, 1024, 52]
    found, _ = rows_of(model, text)
    np.testing.assert_allclose(found[[0, 1024, 2048], 0], np.log(0.25), rtol=1e-6)
    parts = np.concatenate([rows_of(model, text[i : i + 1024])[0] for i in (0, 1024, 2048)])
    np.testing.assert_allclose(found, parts, rtol=0, atol=1e-5)


def test_special_tokens_in_front():
    """With BEND's rules a sequence begins with [CLS]: the letter after it still has nothing before it."""
    model = load(GOLDEN / "hyenadna", rules="bend")
    (text,) = random_sequences([30], seed=12)
    tokens = torch.tensor([[0, *(SINGLE[x] for x in text), 1]])
    probability = model.logits(tokens)[0].double().log_softmax(-1).numpy()
    found, _ = rows_of(letter_model(model), text)
    np.testing.assert_allclose(found[0], np.log(0.25), rtol=1e-6)
    np.testing.assert_allclose(found[1:], probability[1:30, 7:11], rtol=0, atol=2e-5)


def test_n_is_a_letter_for_causal_models():
    model = load(GOLDEN / "hyenadna")
    for kind in ("letters", "sequence"):
        ours = letter_model(model, kind)
        assert ours.pieces(codes_of("ACNGT"))[0].ids.tolist() == model.pieces(codes_of("ACNGT"))[0].ids.tolist()
        assert np.isfinite(rows_of(ours, "ACNGT")[0]).all()


def test_is_causal():
    assert [is_causal(load(GOLDEN / family)) for family in ("hyenadna", "awd_lstm", "nt_v1", "resnet_lm")] == [
        True,
        True,
        False,
        False,
    ]


# ---- as any other model -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "kind"), [("nt_v2", "letters"), ("resnet_lm", "letters"), ("hyenadna", "sequence")])
def test_padded_batches_give_what_each_sequence_gives_alone(family, kind):
    model = letter_model(load(GOLDEN / family), kind)
    assert model.pads
    texts = random_sequences([36, 60, 12], seed=13)
    texts[1] = texts[1][:20] + "N" + texts[1][21:]
    pieces = [model.pieces(codes_of(text))[0] for text in texts]
    lengths = torch.tensor([len(piece.ids) for piece in pieces])
    ids = torch.zeros(3, int(lengths.max()), dtype=torch.int64)
    for row, piece in zip(ids, pieces, strict=True):
        row[: len(piece.ids)] = torch.from_numpy(piece.ids)
    with torch.inference_mode():
        together = model.hidden(ids, lengths)
    for number, piece in enumerate(pieces):
        alone = model.hidden(torch.from_numpy(piece.ids)[None])[0]
        torch.testing.assert_close(together[number, : len(piece.ids)], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "kind"),
    [("nt_v1", "letters"), ("resnet_lm", "letters"), ("caduceus_ps", "letters"), ("awd_lstm", "sequence")],
)
def test_embedding_some_positions_and_going_on(family, kind, many_blocks):
    base = load(GOLDEN / family)
    model = letter_model(base, kind)
    texts = random_sequences([48] * 30 + [31, 60], seed=14)
    texts[3] = texts[3][:24] + "N" + texts[3][25:]
    task = tasks.from_sequences("t", texts, ids=[f"s{i}" for i in range(32)])
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(task)
    positions = pd.DataFrame({"id": [f"s{i}" for i in range(32)], "position": [24] * 32})
    options = {"keep": "rows", "positions": positions, "dtype": "float32", "progress": False}
    report = embedstore.embed(store, "t", model, batch_tokens=1, **options)
    assert (report.model, report.rows) == (f"{family}.{kind}", 32)
    again = embedstore.embed(store, "t", letter_model(load(GOLDEN / family), kind), **options)
    assert (again.blocks, again.blocks_before) == (0, report.blocks)
    embedstore.embed(store, "t", model, name="many", batch_tokens=4096, **options)
    rows, many = (store.embedding("t", name).read(np.arange(32)) for name in (report.model, "many"))
    np.testing.assert_allclose(rows.vector, many.vector, rtol=0, atol=1e-5)
    for i, text in enumerate(texts):
        expected, span = rows_of(model, text)
        row = int(np.searchsorted(np.cumsum(span), 24, side="right"))
        np.testing.assert_allclose(rows.vector[i], expected[row], rtol=0, atol=1e-5)
    with pytest.raises(FingerprintError):
        embedstore.embed(store, "t", base, name=report.model, **options)
    plan = embedstore.plan(store, "t", model, name="other", dtype="float32", trial=False)
    assert plan.rows == sum(len(rows_of(model, text)[1]) for text in texts)
    record = store.embedding("t", report.model).record
    assert record["log_probabilities"]["kind"] == kind
    assert record["layers"] == base.record["layers"]


def test_the_fingerprint_says_what_the_rows_are():
    base = load(GOLDEN / "hyenadna")
    prints = [m.fingerprint for m in (base, letter_model(base), letter_model(base, "sequence"))]
    assert len({json.dumps(p) for p in prints}) == 3
    assert prints[1].keys() == base.fingerprint.keys()
    masked = letter_model(load(GOLDEN / "resnet_lm"))
    assert "masked (id 1)" in masked.fingerprint["window"]
    # The head is above the last layer, whichever was asked for.
    assert letter_model(load(GOLDEN / "resnet_lm", layer=2)).fingerprint == masked.fingerprint


def test_many_sequences_at_once_are_cut_like_each_by_itself():
    model = letter_model(load(GOLDEN / "nt_v1"))
    texts = random_sequences([40, 40, 25, 40, 7], seed=15)
    texts[3] = "N" + texts[3][1:]
    lengths = np.array([len(text) for text in texts])
    every = model.pieces_of(codes_of("".join(texts)), lengths)
    counts = model.row_counts(codes_of("".join(texts)), lengths)
    for text, pieces, count in zip(texts, every, counts, strict=True):
        (one,), (other,) = pieces, model.pieces(codes_of(text))
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.span, other.span)
        assert count == len(other.span)


def test_lower_precision_and_counting_flops():
    base = load(GOLDEN / "nt_v2", precision="bfloat16")
    model = letter_model(base)
    assert model.fingerprint["precision"] == "bfloat16"
    found, exact = (rows_of(m, "ACGTAC" * 5)[0] for m in (model, letter_model(load(GOLDEN / "nt_v2"))))
    assert found.dtype == np.float32
    assert 1e-4 < np.abs(found - exact).max() < 0.5
    assert flops(model, [20, 20]) >= 2 * 2 * 20 * 24 * 4107  # the products of the head


# ---- what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "kind", "message"),
    [
        ("dnabert", "letters", "6 overlapping k-mers"),
        ("dnabert2", "letters", BYTES),
        ("grover", "letters", BYTES),
        ("gena_bert_last_ln", "letters", BYTES),
        ("gena_bigbird", "letters", BYTES),
        ("modernbert", "letters", BYTES),
        ("esm2", "letters", "is of proteins"),
        ("esmc", "letters", "is of proteins"),
        ("prott5", "letters", "is of proteins"),
        ("resnet_lm", "sequence", "sees both sides.*hyenadna and awd_lstm.*'letters'"),
        ("resnet_lm", "logits", "kind is 'logits'; it must be one of letters, sequence"),
    ],
)
def test_models_without_log_probabilities_of_letters(family, kind, message):
    with pytest.raises(InputError, match=message):
        letter_model(load(GOLDEN / family), kind)


def test_models_without_a_head(tmp_path):
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(GOLDEN / "resnet_lm" / name, tmp_path)
    weights = load_file(GOLDEN / "resnet_lm" / "model.safetensors")
    bare = {k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")}
    save_file(bare, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="no language-model head"):
        letter_model(load(tmp_path))
    function = function_model(
        "f",
        lambda texts: [(np.eye(128, dtype=np.float32)[list(t.encode())], np.ones(len(t), int)) for t in texts],
        version="1",
    )
    with pytest.raises(InputError, match="'f' has no language-model head"):
        letter_model(function)
    with pytest.raises(InputError, match=r"'resnet_lm\.letters' has no language-model head"):
        letter_model(letter_model(load(GOLDEN / "resnet_lm")))


def copied(family, folder):
    for path in (GOLDEN / family).iterdir():
        if not path.name.startswith("cases"):
            shutil.copy(path, folder)
    return folder


def test_models_without_a_mask_token(tmp_path):
    path = copied("resnet_lm", tmp_path) / "tokenizer.json"
    path.write_text(path.read_text().replace("[MASK]", "[OTHER]"))
    with pytest.raises(InputError, match=f"convnet.*{NO_MASK}"):
        letter_model(load(tmp_path))


def test_mask_of_words_without_a_vocabulary_file(tmp_path):
    """CaLM is published without vocab.txt: the config says which id is the mask."""
    folder = copied("calm", tmp_path)
    (folder / "vocab.txt").unlink()
    assert letter_model(load(folder)).record["log_probabilities"] == {"kind": "letters", "letters": 3, "mask_id": 68}
    change_config(folder, mask_token_id=REMOVED)
    with pytest.raises(InputError, match=NO_MASK):
        letter_model(load(folder))
    change_config(folder, mask_token_id="68")
    with pytest.raises(CheckpointError, match="mask_token_id is '68'"):
        letter_model(load(folder))


def test_checkpoints_of_the_hub_are_read_where_they_were_fetched(monkeypatch):
    calls = []

    def fetch(repository, revision):
        calls.append((repository, revision))
        return GOLDEN / "nt_v1"

    monkeypatch.setattr("embedstore.models.hub.fetch", fetch)
    model = load("someone/something", revision="a" * 40)
    assert letter_model(model).width == 24
    assert calls == [("someone/something", "a" * 40)] * 2
