"""The whole way to scores: the same numbers as a loop over variants, whatever the batch, order, windows or store."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import cosine
from toys import random_sequences

import embedstore
from analysis.scoring import score_variants
from analysis.variant_ways import letters_of_word
from embedstore.errors import FingerprintError, InputError
from embedstore.genome import Genome
from embedstore.models import load
from embedstore.models.function import function_model
from embedstore.sequences import encode, reverse_complement

GOLDEN = Path(__file__).parents[1] / "golden"
CONTIGS = dict(zip(("chr1", "chr2"), random_sequences([1500, 600], seed=8), strict=True))
NEXT = dict(zip("ACGT", "CGTA", strict=True))


@cache
def model(family):
    """Return the tiny checkpoint of a family; whole windows of every test fit into its context."""
    return load(GOLDEN / family, name=family)


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in CONTIGS.items()))
    with Genome(path) as opened:
        yield opened


def snvs(*places):
    table = pd.DataFrame(places, columns=["chromosome", "position"])
    table["ref"] = [CONTIGS[chromosome][position] for chromosome, position in places]
    return table.assign(alt=table["ref"].map(NEXT))


PLACES = [("chr1", p) for p in (700, 20, 701, 5, 1499, 900, 702)] + [("chr2", p) for p in (300, 0, 301)]


def rows_alone(net, text):
    """Hidden states at nucleotides, of one sequence by itself."""
    found = []
    for piece in net.pieces(encode(text)):
        with torch.inference_mode():
            hidden = net.hidden(torch.from_numpy(piece.ids)[None])[0].numpy().astype(np.float64)
        found.append(np.repeat(hidden[piece.first : piece.first + len(piece.span)], piece.span, axis=0))
    return np.concatenate(found)


def turned(text):
    return reverse_complement(encode(text)).tobytes().decode()


def loop(net, variants, context, *, left=False, frame=0, turn=False):
    """Score variants one at a time, reference then alternate."""
    found = []
    for row in variants.itertuples():
        text, place = CONTIGS[row.chromosome], row.position
        start = place + 1 - context if left else place - context - frame
        end = place + 1 if left else start + 2 * context
        if left:
            start = max(start, 0)
        else:
            first = min(max(place - context, 0), len(text) - 2 * context)
            start = first - frame if first >= frame else first + frame
            end = start + 2 * context
        alleles = []
        for letter in (row.ref, row.alt):
            window = text[start:place] + letter + text[place + 1 : end]
            rows = rows_alone(net, turned(window))[::-1] if turn else rows_alone(net, window)
            alleles.append(rows[place - start])
        found.append(cosine(*alleles))
    return found


@pytest.mark.parametrize("family", ["resnet_lm", "nt_v1", "nt_v2", "gena_bert_last_ln", "dnabert"])
def test_scores_are_those_of_a_loop_over_variants(genome, family):
    variants = snvs(*PLACES)
    found = score_variants(variants, genome, model(family), context=30, progress=False)
    assert found[["chromosome", "position", "ref", "alt"]].equals(variants)
    np.testing.assert_allclose(found["cosine"], loop(model(family), variants, 30), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("family", ["hyenadna", "awd_lstm"])
def test_causal_models_see_the_variant_last(genome, family):
    variants = snvs(*PLACES)
    found = score_variants(variants, genome, model(family), context=40, progress=False)
    np.testing.assert_allclose(found["cosine"], loop(model(family), variants, 40, left=True), rtol=1e-4, atol=1e-6)
    both = score_variants(variants, genome, model(family), context=40, strands="both", progress=False)
    swapped = variants.assign(
        position=[len(CONTIGS[c]) - 1 - p for c, p in zip(variants["chromosome"], variants["position"], strict=True)],
        ref=variants["ref"].map(turned),
        alt=variants["alt"].map(turned),
    )
    plain = {name: CONTIGS[name] for name in CONTIGS}
    try:
        CONTIGS.update({name: turned(text) for name, text in plain.items()})
        other = loop(model(family), swapped, 40, left=True)
    finally:
        CONTIGS.update(plain)
    np.testing.assert_allclose(both["cosine"], (found["cosine"] + other) / 2, rtol=1e-4, atol=1e-6)


def test_the_slip_of_bends_script_is_an_option_to_compare_with(genome):
    """`scripts/predict_variant_effects.py:82-87`: the window ends before the variant; the letter there is changed."""
    net, variants = model("hyenadna"), snvs(("chr1", 700), ("chr1", 900))
    found = score_variants(variants, genome, net, context=40, off_by_one=True, progress=False)
    expected = []
    for row in variants.itertuples():
        window = CONTIGS[row.chromosome][row.position - 40 : row.position]
        expected.append(cosine(rows_alone(net, window)[-1], rows_alone(net, window[:-1] + row.alt)[-1]))
    np.testing.assert_allclose(found["cosine"], expected, rtol=1e-4, atol=1e-6)
    right = score_variants(variants, genome, net, context=40, progress=False)
    assert (abs(right["cosine"] - found["cosine"]) > 1e-4).all()


@pytest.mark.parametrize("family", ["resnet_lm", "nt_v1", "hyenadna"])
def test_scores_do_not_depend_on_batches_or_order(genome, family):
    """The table is shuffled, and one variant is there again, with a letter before it that is no change."""
    rng = np.random.default_rng(1)
    variants = snvs(*[("chr1", int(p)) for p in rng.choice(np.arange(100, 1400), 40, replace=False)])
    first = score_variants(variants, genome, model(family), context=40, batch_tokens=1, progress=False)
    tokens = 200
    for batch in (7 * tokens, 64 * tokens):
        again = score_variants(variants, genome, model(family), context=40, batch_tokens=batch, progress=False)
        np.testing.assert_allclose(again["cosine"], first["cosine"], rtol=0, atol=1e-6)
    order = rng.permutation(len(variants))
    other = score_variants(variants.iloc[order], genome, model(family), context=40, progress=False)
    np.testing.assert_allclose(other["cosine"], first["cosine"].to_numpy()[order], rtol=0, atol=1e-6)
    row = variants.iloc[0].to_dict()
    before = CONTIGS["chr1"][row["position"] - 1]
    padded = {**row, "position": row["position"] - 1, "ref": before + row["ref"], "alt": before + row["alt"]}
    pair = score_variants(pd.DataFrame([row, padded, row]), genome, model(family), context=40, progress=False)
    assert len(set(pair["cosine"])) == 1
    assert len(set(pair["alternate"])) == 1


def test_frames_are_averaged(genome):
    net, variants = model("nt_v1"), snvs(*PLACES[:3])
    found = score_variants(variants, genome, net, context=30, frames=6, progress=False)
    each = [loop(net, variants, 30, frame=frame) for frame in range(6)]
    np.testing.assert_allclose(found["cosine"], np.mean(each, axis=0), rtol=1e-4, atol=1e-6)
    assert np.std(each, axis=0).min() > 1e-5
    assert [run["task"] for run in found.attrs["runs"]] == ["variants"] + [f"variants.frame{f}" for f in range(1, 6)]


@pytest.mark.parametrize("family", ["resnet_lm", "nt_v1"])
def test_scores_of_both_strands_are_averaged(genome, family):
    variants = snvs(*PLACES[:4])
    found = score_variants(variants, genome, model(family), context=30, strands="both", progress=False)
    each = [loop(model(family), variants, 30, turn=turn) for turn in (False, True)]
    np.testing.assert_allclose(found["cosine"], np.mean(each, axis=0), rtol=1e-4, atol=1e-6)
    assert abs(np.subtract(*each)).min() > 1e-5


@pytest.mark.parametrize("family", ["resnet_lm", "nt_v1"])
def test_likelihoods_stand_beside_distances(genome, family):
    """Ratios themselves are tested with `embedstore.models.letters`; here, that rows and variants meet."""
    variants = pd.concat([snvs(*PLACES), pd.DataFrame([{
        "chromosome": "chr1", "position": 50, "ref": CONTIGS["chr1"][50:52], "alt": CONTIGS["chr1"][50],
    }])], ignore_index=True)  # fmt: skip
    names = ["cosine", "llr_masked", "entropy_masked", "llr_wild_type"]
    found = score_variants(variants, genome, model(family), context=30, scores=names, progress=False)
    assert list(found)[-4:] == names
    assert found.loc[:9, names].notna().all(axis=None)
    assert found["entropy_masked"].iloc[:10].between(0, np.log(4) + 1e-6).all()
    deletion = found.iloc[10]
    assert np.isfinite(deletion["cosine"])
    assert np.isnan(deletion["llr_masked"])
    lacking = "llr_masked, entropy_masked, llr_wild_type"
    assert deletion["reason"] == f"{lacking}: only single nucleotides have this score"
    assert (found["reason"].iloc[:10] == "").all()
    # Both scores of a run alone, and on both strands.
    alone = score_variants(variants[:10], genome, model(family), context=30, scores="llr_masked", progress=False)
    np.testing.assert_allclose(alone["llr_masked"], found["llr_masked"][:10], atol=1e-5)
    both = score_variants(
        variants[:10], genome, model(family), context=30, scores="llr_masked", strands="both", progress=False
    )
    assert (abs(both["llr_masked"] - alone["llr_masked"]) > 1e-6).any()


def test_causal_likelihoods(genome):
    names = ["llr_causal", "entropy_causal", "llr_sequence", "cosine"]
    found = score_variants(
        snvs(*PLACES), genome, model("hyenadna"), context=40, scores=names, strands="both", progress=False
    )
    # On one strand or the other, nothing is before the first and the last letter of a chromosome.
    ends = [place in (0, len(CONTIGS[chromosome]) - 1) for chromosome, place in PLACES]
    assert found["llr_causal"].isna().tolist() == found["entropy_causal"].isna().tolist() == ends
    assert found[["llr_sequence", "cosine"]].notna().all(axis=None)
    why = "llr_causal, entropy_causal: the model reads no letter before the variant"
    assert found["reason"].tolist() == [why if end else "" for end in ends]


def test_a_second_run_finds_everything_and_other_scores_add_to_it(genome, tmp_path, many_blocks):
    variants, store = snvs(*PLACES), tmp_path / "s.zarr"
    first = score_variants(variants, genome, model("nt_v1"), store, context=30, progress=False)
    (run,) = first.attrs["runs"]
    assert run["blocks"] > 1
    assert (run["task"], run["embedding"], run["blocks_before"]) == ("variants", "nt_v1", 0)
    second = score_variants(variants, genome, model("nt_v1"), store, context=30, progress=False)
    assert (second.attrs["runs"][0]["blocks"], second.attrs["runs"][0]["blocks_before"]) == (0, run["blocks"])
    pd.testing.assert_frame_equal(second, first)
    names = ["cosine", "window_cosine", "llr_masked"]
    score_variants(variants, genome, model("nt_v1"), store, context=30, scores=names, around=1, progress=False)
    opened = embedstore.open_store(store)
    assert sorted(opened.tasks()) == ["variants", "variants.masked"]
    assert sorted(opened.models("variants")) == ["nt_v1", "nt_v1.windows.around1"]
    assert opened.verify().sound
    with pytest.raises(FingerprintError, match="task 'variants' holds other windows .*: context was 30, now 20. Give"):
        score_variants(variants, genome, model("nt_v1"), store, context=20, progress=False)
    with pytest.raises(FingerprintError, match="task 'variants' .*: the variants are others, or in another order"):
        score_variants(variants[::-1], genome, model("nt_v1"), store, context=30, progress=False)


def test_columns_that_do_not_decide_on_windows_may_change_and_come_back_as_they_were(genome, tmp_path):
    variants, store = snvs(*PLACES), tmp_path / "s.zarr"
    first = score_variants(variants, genome, model("nt_v1"), store, context=30, progress=False)
    more = variants.assign(label=1.0, line=range(len(variants)), gene=pd.Categorical(["a", "b"] * 5))
    more["AF (gnomAD)"] = pd.array([None, 1, *range(8)], dtype="Int64")
    second = score_variants(more, genome, model("nt_v1"), store, context=30, progress=False)
    assert second.attrs["runs"][0]["blocks"] == 0
    pd.testing.assert_frame_equal(second[more.columns], more)
    assert second["cosine"].equals(first["cosine"])


def test_a_genome_that_was_named_is_closed(genome, monkeypatch):
    closed = []
    close = Genome.close
    monkeypatch.setattr(Genome, "close", lambda opened: (closed.append(opened), close(opened)))
    score_variants(snvs(("chr1", 700)), genome.path, model("nt_v1"), context=30, progress=False)
    assert len(closed) == 1
    score_variants(snvs(("chr1", 700)), genome, model("nt_v1"), context=30, progress=False)
    assert len(closed) == 1


def test_windows_that_a_model_does_not_read_at_once_are_named(genome, toy_model, caplog):
    """The toy reads 60 letters at once."""
    score_variants(snvs(("chr1", 700)), genome, toy_model, context=30, progress=False)
    assert "pieces" not in caplog.text
    score_variants(snvs(("chr1", 700)), genome, toy_model, context=31, frames=2, progress=False)
    said = [record.getMessage() for record in caplog.records if "pieces" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("Windows of 62 letters are longer than the context of toy, which reads them in 2 pieces")


@pytest.mark.parametrize(
    ("family", "options", "said"),
    [
        ("nt_v1", {"scores": ["llr_causal"]}, "no llr_causal of a model that sees both sides of a nucleotide"),
        ("hyenadna", {"scores": ["llr_masked"]}, "no llr_masked of a model that reads from the left"),
        ("hyenadna", {"around": 1}, "around and frames are for models that see both sides"),
        ("hyenadna", {"frames": 2}, "around and frames are for models that see both sides"),
        ("nt_v1", {"off_by_one": True}, "off_by_one repeats BEND's windows"),
        ("hyenadna", {"off_by_one": True, "scores": ["window_cosine"]}, "has cosine, l2 and inner_product only"),
        ("nt_v1", {"strands": "reverse"}, "strands is 'reverse'"),
        ("nt_v1", {"frames": 0}, "frames is 0"),
        ("nt_v1", {"frames": 31}, "frames is 31; it must be at most 30, the context"),
        (
            "hyenadna",
            {"stride": 8, "scores": ["cosine", "llr_sequence"]},
            "cannot share the windows of cosine of a model",
        ),
        ("hyenadna", {"off_by_one": True, "strands": "both"}, "reads the forward strand only"),
        ("nt_v1", {"context": 0}, "context is 0; it must be 1 or more"),
        ("hyenadna", {"context": 0}, "context is 0; it must be 1 or more"),
        ("esm2", {}, "'esm2' reads protein: variants of a genome need a model of DNA"),
        ("nt_v1", {"scores": ["cosin"]}, "Did you mean 'cosine'"),
        ("dnabert", {"scores": ["llr_masked"]}, "overlapping"),
        ("dnabert2", {"scores": ["llr_masked"]}, "no fixed number of letters"),
    ],
)
def test_what_a_model_does_not_have_is_refused(genome, family, options, said):
    with pytest.raises(InputError, match=said):
        score_variants(snvs(("chr1", 700)), genome, model(family), progress=False, **{"context": 30, **options})


def test_rough_models_and_wrong_variants_leave_no_store(genome, tmp_path):
    rough = load(GOLDEN / "nt_v1", precision="bfloat16")
    with pytest.raises(InputError, match='computes in bfloat16.*precision="float32"'):
        score_variants(snvs(("chr1", 700)), genome, rough, tmp_path / "s.zarr", context=30, progress=False)
    wrong = snvs(("chr1", 700)).assign(chromosome="chr9")
    with pytest.raises(InputError, match="chr9"):
        score_variants(wrong, genome, model("nt_v1"), tmp_path / "s.zarr", context=30, progress=False)
    assert not (tmp_path / "s.zarr").exists()


# ---- windows that neighbours share -----------------------------------------------------------------------------------


def reads_words(k):
    """A model whose rows are of the words of k letters by themselves: nothing but a variant's own word decides."""
    table = np.random.default_rng(5).normal(size=(4**k + 1, 6)).astype(np.float32)

    def row(word):
        return table[int(word.translate(str.maketrans("ACGT", "0123")), 4) if len(word) == k else -1]

    def rows(texts):
        words = [[text[i : i + k] for i in range(0, len(text), k)] for text in texts]
        return [(np.stack([row(w) for w in own]), np.array([len(w) for w in own])) for own in words]

    return function_model("words", rows, version="1")


@pytest.mark.parametrize("options", [{}, {"frames": 5}, {"strands": "both"}])
def test_shared_windows_change_no_score_of_a_model_of_words(genome, options):
    net, variants = reads_words(5), snvs(*[("chr2", p) for p in range(150, 250)])
    alone = score_variants(variants, genome, net, context=100, **options, progress=False)
    shared = score_variants(variants, genome, net, context=100, stride=64, **options, progress=False)
    np.testing.assert_allclose(shared["cosine"], alone["cosine"], atol=1e-7)
    assert shared["reference"].nunique() < alone["reference"].nunique() / 4
    assert alone["cosine"].nunique() > 90


@pytest.mark.parametrize("family", ["resnet_lm", "hyenadna", "caduceus_ps", "dnabert", "dnabert2", "grover", "calm"])
def test_models_without_words_side_by_side_have_words_of_one_letter(family):
    assert letters_of_word(model(family)) == (3 if family == "calm" else 1)


@pytest.mark.parametrize(("net", "word"), [("nt_v1", 6), ("nt_v2", 6), (5, 5), (300, 1)])
def test_models_with_words_side_by_side_say_their_length(net, word):
    assert letters_of_word(model(net) if isinstance(net, str) else reads_spans(net)) == word


def reads_spans(k):
    """A model with a row for each k letters, and one for the rest."""

    def rows(texts):
        spans = [np.diff([*range(0, len(text), k), len(text)]) for text in texts]
        return [(np.ones((len(span), 2), np.float32), span) for span in spans]

    return function_model("spans", rows, version="1")


def test_windows_of_a_causal_model_that_end_where_one_likes_can_be_shared(genome):
    variants = snvs(*[("chr1", p) for p in range(600, 620)])
    found = score_variants(
        variants, genome, model("hyenadna"), scores=["llr_sequence"], context=40, stride=40, progress=False
    )
    assert set(found["reference"]) == {0}
