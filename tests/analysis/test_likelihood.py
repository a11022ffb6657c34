"""Log-likelihood ratios and entropies against loops over letters, cross entropy, planted and known probabilities."""

from __future__ import annotations

import shutil
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from encoders import GOLDEN, change_weights, native
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import load_file
from scipy.stats import entropy as scipy_entropy
from toys import random_sequences

import embedstore
from analysis.likelihood import entropy, letters_at, likelihood_scores, llr, sequence_difference
from embedstore.errors import IncompleteError, InputError
from embedstore.genome import Genome
from embedstore.models import load
from embedstore.models.letters import letter_model
from embedstore.tasks import from_sequences
from embedstore.variants.aligned import variant_positions
from embedstore.variants.windows import variant_task

CONTIGS = dict(zip(("chr1", "chr2"), random_sequences([400, 150], seed=21), strict=True))
CONTEXT = 24
TURN = str.maketrans("ACGT", "TGCA")
# In windows that were moved inside their chromosome a variant has any place in its token.
SNVS = [("chr1", 200), ("chr2", 148), *(("chr2", place) for place in range(1, 7))]


@cache
def transformers_class():
    return native("nt_v1")


def turned(text):
    return text.translate(TURN)[::-1]


@pytest.fixture
def genome(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in CONTIGS.items()))
    with Genome(path) as opened:
        yield opened


@pytest.fixture
def store():
    return embedstore.open_store("memory://", mode="a")


def table_of(rows):
    return pd.DataFrame(rows, columns=["chromosome", "position", "ref", "alt"])


def every_snv(places=SNVS):
    refs = [CONTIGS[chromosome][position] for chromosome, position in places]
    return table_of([(*at, ref, alt) for at, ref in zip(places, refs, strict=True) for alt in "ACGT" if alt != ref])


def added(store, task, model, kind="letters", *, positions=True, **options):
    """Add a task, embed its log probabilities, return the table of variants and the embedding's name."""
    store.add_task(task)
    model = letter_model(model, kind)
    options = {"keep": "rows", "dtype": "float32", "progress": False} | options
    if positions:
        options["positions"] = variant_positions(store, task.name)
    embedstore.embed(store, task.name, model, **options)
    return store.variants(task.name), options.get("name", model.name)


def window_of(row):
    """The reference window and the place of the variant in it, counted by hand."""
    text = CONTIGS[row.chromosome]
    first = min(max(row.position - CONTEXT, 0), len(text) - 2 * CONTEXT)
    return text[first : first + 2 * CONTEXT], row.position - first


# ---- single letters ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("masked", [True, False])
def test_kmers_are_those_of_transformers_token_by_token(masked, strand, genome, store):
    theirs = transformers_class()
    ids = {word: i for i, word in enumerate((GOLDEN / "nt_v1" / "vocab.txt").read_text().split())}
    alleles = "masked" if masked else "reference"
    task = variant_task(every_snv(), genome, context=CONTEXT, alleles=alleles, strand=strand)
    table, name = added(store, task, load(GOLDEN / "nt_v1"))
    suffix = "masked" if masked else "wild_type"
    scored = likelihood_scores(store, "variants", name, [f"llr_{suffix}", f"entropy_{suffix}"])
    assert len(scored) == len(SNVS) * 3
    assert (scored["reason"] == "").all()
    found = letters_at(store, "variants", name)
    places = set()
    for number, row in enumerate(table.itertuples()):
        window, place = window_of(row)
        letters = "ACGT"
        if strand == "-":
            window, place, letters = turned(window), 2 * CONTEXT - 1 - place, "TGCA"
        token, within = divmod(place, 6)
        places.add(within)
        words = [window[i : i + 6] for i in range(0, 2 * CONTEXT, 6)]
        tokens = [ids["<cls>"], *(ids[word] for word in words)]
        if masked:
            tokens[1 + token] = ids["<mask>"]
        with torch.no_grad():
            probability = theirs(torch.tensor([tokens])).logits[0, 1 + token].double().log_softmax(-1)
        word = words[token]
        expected = [float(probability[ids[word[:within] + x + word[within + 1 :]]]) for x in letters]
        np.testing.assert_allclose(found[number], expected, rtol=0, atol=2e-5)
        ratio = expected["ACGT".index(row.alt)] - expected["ACGT".index(row.ref)]
        assert scored[f"llr_{suffix}"][number] == pytest.approx(ratio, abs=4e-5)
        shares = np.exp(expected)
        assert scored[f"entropy_{suffix}"][number] == pytest.approx(scipy_entropy(shares / shares.sum()), abs=2e-5)
    assert places == set(range(6))


def test_ratios_change_their_sign_when_the_alleles_are_exchanged(tmp_path, genome, store):
    """The genome with the alternate letter has the same masked window: the ratio is the other one, negated."""
    variants = every_snv([("chr1", 200)])[:1]
    (row,) = variants.itertuples()
    other = tmp_path / "other.fa"
    text = CONTIGS["chr1"]
    other.write_text(f">chr1\n{text[:200]}{row.alt}{text[201:]}\n")
    model = load(GOLDEN / "nt_v1")
    task = variant_task(variants, genome, name="one", context=CONTEXT, alleles="masked")
    _, name = added(store, task, model)
    with Genome(other) as exchanged:
        back = table_of([("chr1", 200, row.alt, row.ref)])
        task = variant_task(back, exchanged, name="two", context=CONTEXT, alleles="masked")
        added(store, task, model)
    one, two = (likelihood_scores(store, task, name, ["llr_masked", "entropy_masked"]) for task in ("one", "two"))
    assert abs(one["llr_masked"][0]) > 1e-3
    np.testing.assert_allclose(one["llr_masked"], -two["llr_masked"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(one["entropy_masked"], two["entropy_masked"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(("alleles", "ending"), [("masked", "masked"), ("reference", "wild_type")])
def test_an_equivariant_network_scores_both_strands_alike(alleles, ending, genome, store):
    model = load(GOLDEN / "caduceus_ps")
    scores = {}
    for strand in "+-":
        task = variant_task(
            every_snv(), genome, name=f"strand{strand == '-'}", context=CONTEXT, alleles=alleles, strand=strand
        )
        _, name = added(store, task, model)
        scores[strand] = likelihood_scores(store, task.name, name, [f"llr_{ending}", f"entropy_{ending}"])
    assert scores["+"][f"llr_{ending}"].abs().min() > 1e-4
    for column in (f"llr_{ending}", f"entropy_{ending}"):
        np.testing.assert_allclose(scores["+"][column], scores["-"][column], rtol=0, atol=2e-5)


def test_batches_and_blocks_do_not_matter(genome, store, many_blocks):
    model = load(GOLDEN / "resnet_lm")
    variants = every_snv([("chr1", 100 + 3 * i) for i in range(60)])
    task = variant_task(variants, genome, context=CONTEXT, alleles="masked")
    _, name = added(store, task, model, batch_tokens=1)
    embedding = store.embedding("variants", name)
    assert embedding.blocks > 1
    options = {"keep": "rows", "dtype": "float32", "progress": False}
    for other, batch_tokens, positions in (("many", 4096, variant_positions(store, "variants")), ("all", 300, None)):
        embedstore.embed(
            store,
            "variants",
            letter_model(model),
            name=other,
            batch_tokens=batch_tokens,
            positions=positions,
            **options,
        )
    one, many, every = (letters_at(store, "variants", each) for each in (name, "many", "all"))
    np.testing.assert_allclose(one, many, rtol=0, atol=1e-5)
    np.testing.assert_allclose(one, every, rtol=0, atol=1e-5)
    assert len(np.unique(one.round(5), axis=0)) == 60  # the three alternates of a place share a row
    # Every window by itself, in another order of the variants.
    order = np.random.default_rng(0).permutation(len(variants))
    mixed = variant_task(variants.iloc[order], genome, name="mixed", context=CONTEXT, alleles="masked")
    _, name = added(store, mixed, model)
    np.testing.assert_allclose(letters_at(store, "mixed", name), one[order], rtol=0, atol=1e-5)


def test_only_blocks_of_variants_are_read(genome, store, many_blocks):
    model = letter_model(load(GOLDEN / "resnet_lm"))
    variants = every_snv([("chr1", 100 + 3 * i) for i in range(60)])
    store.add_task(variant_task(variants, genome, context=CONTEXT))
    embedstore.embed(
        store, "variants", model, keep="rows", dtype="float32", progress=False, blocks=[0], batch_tokens=4096
    )
    with pytest.raises(IncompleteError, match="block .* is not embedded yet"):
        letters_at(store, "variants", model.name)


def test_shared_windows_with_several_variants(genome, store):
    """Near the end of a chromosome, one window holds variants at different places."""
    task = variant_task(every_snv([("chr2", p) for p in (2, 3, 20)]), genome, context=CONTEXT, alleles="reference")
    model = load(GOLDEN / "resnet_lm")
    table, name = added(store, task, model)
    assert len(task.samples) == 1
    ids = torch.tensor([[" ACGT".index(x) + 2 for x in CONTIGS["chr2"][: 2 * CONTEXT]]])
    probability = model.logits(ids)[0].double().log_softmax(-1)[:, 3:7].numpy()
    np.testing.assert_allclose(letters_at(store, "variants", name), probability[table["position"]], rtol=0, atol=2e-5)


# ---- models that read from the left -----------------------------------------------------------------------


def loss_of(model, window):
    """Log probability of a window by the cross entropy of the scores, shifted by one against the letters."""
    ids = torch.from_numpy(model.pieces(np.frombuffer(window.encode(), np.uint8))[0].ids[: len(window)])
    scores = model.logits(ids[None])[0, :-1].double()
    return -float(torch.nn.functional.cross_entropy(scores, ids[1:], reduction="sum"))


CHANGES = [
    ("chr1", 200, 1, "snv"),
    ("chr1", 230, 3, "mnv"),
    ("chr1", 260, 4, "deletion"),
    ("chr1", 290, 1, "insertion"),
]


def changes():
    """A variant of each kind; their windows are made by hand below."""
    rows = []
    for chromosome, position, size, kind in CHANGES:
        ref = CONTIGS[chromosome][position : position + size]
        alt = {
            "snv": ref.translate(TURN),
            "mnv": ref.translate(TURN),
            "deletion": ref[0],
            "insertion": ref + ref.translate(TURN) * 3,
        }[kind]
        rows.append((chromosome, position, ref, alt))
    return table_of(rows)


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("family", ["hyenadna", "awd_lstm"])
def test_sequences_are_compared_by_their_cross_entropy(family, strand, genome, store):
    model = load(GOLDEN / family)
    task = variant_task(changes(), genome, context=CONTEXT, strand=strand)
    table, name = added(store, task, model, "sequence", positions=False)
    found = likelihood_scores(store, "variants", name, ["llr_sequence"])
    assert (found["reason"] == "").all()
    for number, row in enumerate(table.itertuples()):
        text = CONTIGS[row.chromosome]
        windows = []
        for allele in (row.ref, row.alt):
            whole = text[: row.position] + allele + text[row.position + len(row.ref) :]
            window = whole[row.window_start : row.window_end + len(allele) - len(row.ref)]
            windows.append(window if strand == "+" else turned(window))
        expected = loss_of(model, windows[1]) - loss_of(model, windows[0])
        assert abs(expected) > 0.01
        assert found["llr_sequence"][number] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("strand", ["+", "-"])
def test_letters_after_those_on_the_left(strand, genome, store):
    model = load(GOLDEN / "awd_lstm")
    task = variant_task(every_snv(), genome, context=40, window="left", alleles="reference", strand=strand)
    table, name = added(store, task, model)
    found = likelihood_scores(store, "variants", name, ["llr_causal", "entropy_causal"])
    for number, row in enumerate(table.itertuples()):
        text, place = CONTIGS[row.chromosome], row.position
        before = text[max(place - 39, 0) : place] if strand == "+" else turned(text[place + 1 : place + 40])
        ids = torch.tensor([["ACGT".index(x) + 3 for x in before]])
        probability = model.logits(ids)[0, -1].double().log_softmax(-1)[3:7].detach().numpy()
        probability = probability if strand == "+" else probability[::-1]
        ratio = probability["ACGT".index(row.alt)] - probability["ACGT".index(row.ref)]
        assert found["llr_causal"][number] == pytest.approx(ratio, abs=4e-5)
        shares = np.exp(probability)
        assert found["entropy_causal"][number] == pytest.approx(scipy_entropy(shares / shares.sum()), abs=2e-5)


@pytest.mark.parametrize(("strand", "first"), [("+", 0), ("-", len(CONTIGS["chr1"]) - 1)])
def test_what_nothing_precedes_has_no_score(strand, first, genome, store):
    """The rows there are log 1/4 for every letter, which says nothing of the variant."""
    places = [("chr1", first), ("chr1", 5)]
    task = variant_task(every_snv(places), genome, context=40, window="left", alleles="reference", strand=strand)
    _, name = added(store, task, load(GOLDEN / "hyenadna"))
    found = likelihood_scores(store, "variants", name, ["llr_causal", "entropy_causal"])
    assert found["reason"].tolist() == ["the model reads no letter before the variant"] * 3 + [""] * 3
    for score in ("llr_causal", "entropy_causal"):
        assert found[score].isna().tolist() == [True] * 3 + [False] * 3


# ---- known probabilities ----------------------------------------------------------------------------------


def test_known_probabilities(tmp_path, genome, store):
    """A head whose scores are the same everywhere: A 0.4, C 0.3, G 0.2, T 0.1 and nothing else to speak of."""
    folder = tmp_path / "model"
    shutil.copytree(GOLDEN / "resnet_lm", folder)
    scores = torch.tensor([1e-30, 1e-30, 1e-30, 0.4, 0.3, 0.2, 0.1]).log()
    zeros = torch.zeros_like(load_file(folder / "model.safetensors")["cls.decoder.3.weight"])
    change_weights(folder, {"cls.decoder.3.bias": scores, "cls.decoder.3.weight": zeros})
    task = variant_task(every_snv(), genome, context=CONTEXT, alleles="masked", strand="-")
    _, name = added(store, task, load(folder, name="known"))
    found = letters_at(store, "variants", name)
    # The windows are of the other strand: there an A is a T of the genome.
    np.testing.assert_allclose(np.exp(found), np.tile([0.1, 0.2, 0.3, 0.4], (len(found), 1)), rtol=1e-6)
    scored = likelihood_scores(store, "variants", name, ["llr_masked", "entropy_masked"])
    share = dict(zip("ACGT", (0.1, 0.2, 0.3, 0.4), strict=True))
    expected = [np.log(share[alt] / share[ref]) for ref, alt in zip(scored["ref"], scored["alt"], strict=True)]
    np.testing.assert_allclose(scored["llr_masked"], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scored["entropy_masked"], scipy_entropy(list(share.values())), rtol=1e-6)


def test_ratio_and_entropy_by_hand():
    values = np.log([[0.25] * 4, [0.5, 0.25, 0.125, 0.125], [0.1] * 4, [np.nan] * 4])
    assert entropy(values[0]) == pytest.approx(np.log(4), abs=1e-15)
    assert entropy(values)[[0, 2]] == pytest.approx(np.log(4))  # 4 x 0.1 is made to add up to 1
    assert entropy(values)[1] == pytest.approx(1.75 * np.log(2))
    assert np.isnan(entropy(values)[3])
    table = pd.DataFrame({"removed": ["A", "A", "", "C"], "added": ["C", "G", "ACG", "T"]})
    assert llr(table, values)[:2] == pytest.approx([0, np.log(0.25)])
    assert np.isnan(llr(table, values)[2:]).all()
    with pytest.raises(InputError, match=r"shape \(3, 4\); wanted \(4, 4\)"):
        llr(table, values[:3])


@settings(max_examples=50)
@given(arrays.arrays(np.float64, (5, 4), elements=st.floats(-30, 0)), st.floats(-5, 0), st.permutations("ACGT"))
def test_properties(values, shift, letters):
    found = entropy(values)
    assert (found >= 0).all()
    assert (found <= np.log(4) + 1e-12).all()
    np.testing.assert_allclose(entropy(values + shift), found, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found, scipy_entropy(np.exp(values), axis=1), rtol=0, atol=1e-9)
    one, other, third, _ = letters
    ab, ba, bc, ac = (
        llr(pd.DataFrame({"removed": [ref] * 5, "added": [alt] * 5}), values)
        for ref, alt in ((one, other), (other, one), (other, third), (one, third))
    )
    np.testing.assert_array_equal(ab, -ba)
    np.testing.assert_allclose(ab + bc, ac, rtol=0, atol=1e-9)


# ---- what has no score, and why ---------------------------------------------------------------------------


def test_variants_of_several_letters_have_no_letter(genome, store):
    table = pd.concat([changes(), every_snv([("chr2", 70)])[:1]], ignore_index=True)
    task = variant_task(table, genome, context=CONTEXT)
    store.add_task(task)
    model = letter_model(load(GOLDEN / "resnet_lm"))
    embedstore.embed(store, "variants", model, keep="rows", dtype="float32", progress=False)
    scored = likelihood_scores(store, "variants", model.name, ["llr_wild_type"])
    assert np.isnan(scored["llr_wild_type"]).tolist() == [False, True, True, True, False]
    assert scored["reason"].tolist() == ["", *["only single nucleotides have this score"] * 3, ""]
    # With no single nucleotide at all nothing is read.
    task = variant_task(changes()[2:], genome, name="indels", context=CONTEXT)
    store.add_task(task)
    embedstore.embed(store, "indels", model, keep="rows", dtype="float32", progress=False)
    assert np.isnan(letters_at(store, "indels", model.name)).all()


def test_windows_that_are_not_scored_keep_their_reason(genome, store):
    table = pd.concat([every_snv([("chr2", 70)])[:2], changes()[1:2]], ignore_index=True)
    _, name = added(store, variant_task(table, genome, context=CONTEXT, alleles="masked"), load(GOLDEN / "resnet_lm"))
    scored = likelihood_scores(store, "variants", name, ["llr_masked"])
    assert scored["reason"].tolist()[:2] == ["", ""]
    assert scored["reason"][2] == store.variants("variants")["reason"][2] != ""
    assert np.isnan(scored["llr_masked"]).tolist() == [False, False, True]


@pytest.mark.parametrize(("kind", "score"), [("letters", "llr_masked"), ("sequence", "llr_sequence")])
def test_quarantined_windows_have_no_score(kind, score, genome, store, monkeypatch):
    base = load(GOLDEN / ("resnet_lm" if kind == "letters" else "awd_lstm"))
    model = letter_model(base, kind)
    task = variant_task(
        every_snv([("chr1", 200), ("chr2", 70)]),
        genome,
        context=CONTEXT,
        alleles="masked" if kind == "letters" else "both",
    )
    store.add_task(task)
    bad = torch.from_numpy(model.pieces(task.sequences(0, 1)[0])[0].ids)
    whole = model.hidden

    def hidden(ids, lengths=None):
        rows = whole(ids, lengths)
        rows[(ids == bad).all(dim=1)] = np.nan
        return rows

    monkeypatch.setattr(model, "hidden", hidden)
    embedstore.embed(store, "variants", model, keep="rows", dtype="float32", quarantine=True, progress=False)
    scored = likelihood_scores(store, "variants", model.name, [score])
    assert np.isnan(scored[score]).tolist() == [True] * 3 + [False] * 3
    assert scored["reason"].tolist() == ["the model gave NaN or infinity for its window"] * 3 + [""] * 3


def test_windows_with_other_flanks_are_not_compared(store):
    """Made by hand: the second alternate window ends one letter earlier than its change says."""
    one, other = random_sequences([30, 30], seed=30)
    task = from_sequences("t", [one, one[:10] + other[10] + one[11:], other, other[:10] + other[12:-1]])
    variants = pd.DataFrame(
        {
            "chromosome": "chr1",
            "position": [10, 10, 5],
            "ref": [one[10], other[10:12], "A"],
            "alt": [other[10], other[10], "C"],
            "removed": [one[10], other[11], "A"],
            "added": [other[10], "", "C"],
            "reference": [0, 2, -1],
            "alternate": [1, 3, -1],
            "offset": [10, 11, -1],
            "reason": ["", "", "not in the genome"],
        }
    )
    task = task.__class__(
        task.name, task.record, task.samples, None, task.sequences, {**task.source, "strand": "+"}, variants
    )
    model = load(GOLDEN / "awd_lstm")
    _, name = added(store, task, model, "sequence", positions=False)
    scored = likelihood_scores(store, "t", name, ["llr_sequence"])
    windows = [codes.tobytes().decode() for codes in task.sequences(0, 2)]
    expected = loss_of(model, windows[1]) - loss_of(model, windows[0])
    assert scored["llr_sequence"][0] == pytest.approx(expected, abs=1e-4)
    assert np.isnan(scored["llr_sequence"][1:]).all()
    assert scored["reason"].tolist() == ["", "its windows have different flanks", "not in the genome"]


# ---- what is refused --------------------------------------------------------------------------------------


def test_scores_that_an_embedding_does_not_give(genome, store):
    task = variant_task(every_snv([("chr1", 200)]), genome, context=CONTEXT)
    causal = load(GOLDEN / "awd_lstm")
    _, name = added(store, task, causal)
    embedstore.embed(store, "variants", letter_model(causal, "sequence"), keep="rows", dtype="float32", progress=False)
    embedstore.embed(store, "variants", causal, keep="rows", dtype="float32", progress=False)
    both = load(GOLDEN / "resnet_lm")
    embedstore.embed(store, "variants", letter_model(both), keep="rows", dtype="float32", progress=False)
    for embedding, score, message in (
        (name, "llr_masked", "does not give llr_masked.*give llr_causal, entropy_causal"),
        ("awd_lstm.sequence", "entropy_causal", "does not give entropy_causal.*give llr_sequence"),
        ("resnet_lm.letters", "llr_masked", r"does not give llr_masked.*\(not masked\) give llr_wild_type"),
        ("resnet_lm.letters", "cosine", "does not give cosine"),
        ("resnet_lm.letters", "llr", "no score 'llr'"),
        ("awd_lstm", "llr_wild_type", r"hidden states, no log probabilities.*letter_model\(model, 'letters'\)"),
    ):
        with pytest.raises(InputError, match=message):
            likelihood_scores(store, "variants", embedding, [score])
    with pytest.raises(InputError, match="log probabilities of kind 'letters'.*'sequence'"):
        sequence_difference(store, "variants", name)


def test_embeddings_that_do_not_fit(genome, store):
    model = load(GOLDEN / "nt_v1")
    task = variant_task(every_snv([("chr1", 200)]), genome, context=CONTEXT, alleles="reference")
    table, _ = added(store, task, model, positions=False)
    options = {"keep": "rows", "dtype": "float32", "progress": False}
    letters = letter_model(model)
    elsewhere = pd.DataFrame({"id": store.samples("variants")["id"], "position": [0]})
    embedstore.embed(store, "variants", letters, name="elsewhere", positions=elsewhere, **options)
    embedstore.embed(store, "variants", letters, name="strands", strands="both", **options)
    embedstore.embed(store, "variants", letters, name="nucleotides", resolution="nucleotide", **options)
    embedstore.embed(store, "variants", letters, name="half", **{**options, "dtype": "float16"})
    low = letter_model(load(GOLDEN / "nt_v1", precision="bfloat16"))
    embedstore.embed(store, "variants", low, name="low", **options)
    for name, message in (
        ("elsewhere", "no row for nucleotide 24 of sample"),
        ("strands", "exchange A with T"),
        ("nucleotides", "resolution='nucleotide'"),
        ("half", 'dtype="float32"'),
        ("low", 'precision="float32"'),
    ):
        with pytest.raises(InputError, match=message):
            letters_at(store, "variants", name)
    assert len(table) == 3


def test_sequences_need_every_row_of_both_windows(genome, store):
    model = load(GOLDEN / "awd_lstm")
    both = variant_task(every_snv([("chr1", 200)]), genome, name="both", context=CONTEXT)
    _, name = added(store, both, model, "sequence")
    with pytest.raises(InputError, match="rows of some positions.*without positions"):
        sequence_difference(store, "both", name)
    single = variant_task(every_snv([("chr1", 200)]), genome, name="single", context=CONTEXT, alleles="reference")
    added(store, single, model, "sequence", positions=False)
    with pytest.raises(InputError, match="no alternate windows: make it with alleles='both'"):
        sequence_difference(store, "single", name)


def test_windows_that_end_before_the_variant(genome, store):
    task = variant_task(every_snv([("chr1", 200)]), genome, context=CONTEXT, window="bend_left")
    _, name = added(store, task, load(GOLDEN / "awd_lstm"))
    with pytest.raises(InputError, match="end before the variant"):
        letters_at(store, "variants", name)


def test_nucleotide_resolution_of_single_letters_is_read(genome, store):
    task = variant_task(every_snv(), genome, context=CONTEXT, alleles="masked")
    _, name = added(store, task, load(GOLDEN / "resnet_lm"))
    model = letter_model(load(GOLDEN / "resnet_lm"))
    options = {"keep": "rows", "dtype": "float32", "progress": False}
    embedstore.embed(store, "variants", model, name="all", resolution="nucleotide", **options)
    np.testing.assert_allclose(
        letters_at(store, "variants", "all"), letters_at(store, "variants", name), rtol=0, atol=1e-5
    )
