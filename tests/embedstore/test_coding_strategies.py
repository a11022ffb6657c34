"""Codon strategies: what each keeps, what it draws, and that a sample's result is its own."""

import hashlib
from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from Bio.Seq import Seq
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from embedstore.coding import (
    CODONS,
    STRATEGIES,
    codon_usage,
    consensus,
    genetic_code,
    parse_strategy,
    recode,
    translate,
)
from embedstore.errors import InputError
from embedstore.sequences import decode, encode

NAMES = [
    *("true", "permuted", "freq_cds", "freq_species", "freq_global", "uniform", "permuted_shared", "uniform_shared"),
    *("window_permuted(1)", "window_permuted(3)", "window_permuted(1000)", "codonpair_preserving", "transplant(mouse)"),
]
SHUFFLES = [name for name in NAMES if name.startswith(("true", "perm", "window", "codonpair")) and "shared" not in name]
CHANGING = [name for name in NAMES if name not in ("true", "window_permuted(1)")]
DRAWS = ["freq_cds", "freq_species", "freq_global", "uniform", "transplant(mouse)"]


def skewed_usage(seed=0):
    """Usage of three groups in which about half of the codons are never used."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 9, (3, 64)) * (rng.random((3, 64)) < 0.5)
    for letter in genetic_code(1).letters:
        for table in (1, 2, 3, 5):  # something to draw from for every amino acid of every table tried
            counts[:, genetic_code(table).synonyms(letter)[0]] += 1
    return pd.DataFrame(counts.astype(float), ["all", "human", "mouse"], list(CODONS))


USAGE = skewed_usage()


def run(texts, name, *, ids=None, species=None, parent=None, usage=USAGE, **options):
    """Recode texts, with everything that any strategy needs."""
    found = recode(
        [encode(text) for text in texts],
        name,
        ids=[f"id{i}" for i in range(len(texts))] if ids is None else ids,
        species=["human"] * len(texts) if species is None else species,
        usage=usage,
        parent=encode(texts[0] if parent is None and texts else parent or ""),
        **options,
    )
    return [decode(one) for one in found]


def cut(text):
    return [text[i : i + 3] for i in range(0, len(text), 3)]


def amino_acids(text, table):
    return str(Seq(text).translate(table)) if text else ""


@cache
def letter(codon, table):
    return str(Seq(codon).translate(table))


@cache
def single_codons(table):
    letters = [letter(codon, table) for codon in CODONS]
    return [codon for codon in CODONS if letters.count(letter(codon, table)) == 1]


def pinned(codons, table, has_start=None):
    """Places that must not change, from the definition and biopython alone."""
    single = single_codons(table)
    places = {i for i, c in enumerate(codons) if not set(c) <= set("ACGT") or c in single or letter(c, table) == "*"}
    if codons:
        starts = [CODONS[i] for i in np.flatnonzero(genetic_code(table).start)]
        if letter(codons[0], table) == "M" or (codons[0] in starts if has_start is None else has_start):
            places.add(0)
    return places


# Few codons, so that families repeat and neighbours match; now and then any codon, and one of other letters.
FEW = st.sampled_from(["AAA", "AAG", "GCT", "GCC", "GCA", "TTG", "CTG", "ATA", "ATG", "TGG", "TGA"])
CODON = st.one_of(FEW, FEW, FEW, FEW, st.sampled_from(CODONS), st.sampled_from(["NNN", "GCN", "RAA"]))
SEQUENCES = st.lists(CODON, max_size=40)
TABLE = st.sampled_from([1, 2, 3, 5, 11])
anything = given(SEQUENCES, TABLE, st.integers(0, 3), st.sampled_from([None, True, False]))
few = settings(max_examples=30)


# ---- what every strategy keeps -------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@few
@anything
def test_translation_length_and_pinned_codons_stay(name, codons, table, seed, has_start):
    text = "".join(codons)
    (new,) = run([text], name, table=table, seed=seed, has_start=None if has_start is None else [has_start])
    assert len(new) == len(text)
    assert amino_acids(new, table) == amino_acids(text, table)
    fixed = pinned(codons, table, has_start)
    assert all(cut(new)[place] == codons[place] for place in fixed)
    if has_start is not False:
        assert translate(encode(new), table, start=bool(has_start)) == translate(
            encode(text), table, start=bool(has_start)
        )


@pytest.mark.parametrize("name", CHANGING)
def test_every_codon_of_other_kinds_can_change(name):
    """The opposite of pinned: nothing is kept that need not be."""
    texts = ["".join(np.random.default_rng(0).permutation(["AAA", "AAG", "GCT", "GCC"] * 50))]
    even = pd.DataFrame(1.0, ["all", "human", "mouse"], list(CODONS))
    changed = np.zeros(200, bool)
    for seed in range(60):
        (new,) = run(texts, name, seed=seed, usage=even)
        changed |= np.array(cut(new)) != np.array(cut(texts[0]))
    # In a small window, or between the same neighbours, there is not always another codon to change with.
    assert changed.mean() > {"window_permuted(3)": 0.3, "codonpair_preserving": 0.7}.get(name, 0.99)


def test_true_is_a_copy():
    codes = encode("ATGGCC")
    (new,) = recode([codes], "true", ids=["a"])
    new[0] = ord("C")
    assert decode(codes) == "ATGGCC"


@few
@anything
def test_places_that_are_named_stay(codons, table, seed, has_start):
    text, keep = "".join(codons), list(range(0, len(codons), 2))
    (new,) = run([text], "uniform", table=table, seed=seed, pinned=[keep])
    assert [cut(new)[place] for place in keep] == [codons[place] for place in keep]


def test_a_first_codon_changes_only_where_it_does_not_start():
    text = "TTG" + "CTG" * 20
    known = {decode(recode([encode(text)], "uniform", ids=["a"], seed=s, has_start=[True])[0])[:3] for s in range(40)}
    unknown = {decode(recode([encode(text)], "uniform", ids=["a"], seed=s)[0])[:3] for s in range(40)}
    other = {decode(recode([encode(text)], "uniform", ids=["a"], seed=s, has_start=[False])[0])[:3] for s in range(40)}
    assert (known, unknown, len(other)) == ({"TTG"}, {"TTG"}, 6)
    # ATA reads M in table 2, whatever is said of the start.
    mitochondrial = {
        decode(recode([encode("ATAATA")], "uniform", ids=["a"], seed=s, table=2, has_start=[False])[0])
        for s in range(20)
    }
    assert mitochondrial == {"ATAATA", "ATAATG"}


# ---- shuffles ------------------------------------------------------------------------------------


def per_amino_acid(codons, table):
    return Counter((letter(codon, table), codon) for codon in codons)


@pytest.mark.parametrize("name", SHUFFLES)
@few
@anything
def test_shuffles_keep_the_codons_of_every_amino_acid(name, codons, table, seed, has_start):
    (new,) = run(["".join(codons)], name, table=table, seed=seed)
    assert per_amino_acid(cut(new), table) == per_amino_acid(codons, table)


@few
@anything
def test_windows_keep_their_codons(codons, table, seed, has_start):
    (new,) = run(["".join(codons)], "window_permuted(3)", table=table, seed=seed)
    for begin in range(0, len(codons), 3):
        assert Counter(cut(new)[begin : begin + 3]) == Counter(codons[begin : begin + 3])


@few
@anything
def test_a_window_of_one_codon_changes_nothing(codons, table, seed, has_start):
    assert run(["".join(codons)], "window_permuted(1)", table=table, seed=seed) == ["".join(codons)]


@given(st.lists(st.sampled_from(["AAA", "AAG", "GCT", "GCC"]), max_size=60), st.integers(0, 5))
def test_codon_pairs_are_kept(codons, seed):
    (new,) = run(["".join(codons)], "codonpair_preserving", seed=seed)
    assert Counter(pairwise(cut(new))) == Counter(pairwise(codons))


@few
@anything
def test_codon_pairs_are_kept_with_any_codons(codons, table, seed, has_start):
    def known(codons):
        return Counter((a, b) for a, b in pairwise(codons) if set(a + b) <= set("ACGT"))

    (new,) = run(["".join(codons)], "codonpair_preserving", table=table, seed=seed)
    assert known(cut(new)) == known(codons)
    assert (cut(new)[:1], cut(new)[-1:]) == (codons[:1], codons[-1:])


@pytest.mark.parametrize("name", ["permuted", "window_permuted(4)", "codonpair_preserving"])
def test_sequences_are_shuffled_apart(name):
    """What two sequences have in common must not let codons pass from one to the other."""
    texts = ["AAAGCTAAAGCTAAA" * 5, "AAGGCCAAGGCCAAG" * 5, "AAAGCCAAAGCC" * 5]
    for seed in range(5):
        for text, new in zip(texts, run(texts, name, seed=seed), strict=True):
            assert Counter(cut(new)) == Counter(cut(text))


def orders(name, text, draws=2400):
    ids = [str(i) for i in range(draws)]
    return Counter(run([text] * draws, name, ids=ids))


def test_all_orders_are_equally_probable():
    found = orders("permuted", "AAAAAGAAAAAGAAG")
    assert len(found) == 10
    assert chisquare(list(found.values())).pvalue > 1e-6


def test_all_orders_of_three_codons_are_equally_probable():
    # Places of the codons of one amino acid that are not next to one another.
    found = orders("permuted", "GCTAAAGCCAAGGCAAAA")
    assert len(found) == 6 * 3
    assert chisquare(list(found.values())).pvalue > 1e-6


def test_all_orders_between_the_same_neighbours_are_equally_probable():
    found = orders("codonpair_preserving", "TGGGCTTGGGCCTGGGCATGG")
    assert len(found) == 6
    assert chisquare(list(found.values())).pvalue > 1e-6


def test_windows_are_shuffled_independently():
    found = orders("window_permuted(2)", "AAAAAGAAAAAG")
    assert len(found) == 4
    assert chisquare(list(found.values())).pvalue > 1e-6


# ---- draws ---------------------------------------------------------------------------------------


def wanted_probabilities(name, text, table):
    """Weights of the 64 codons that a strategy draws with."""
    if name == "uniform":
        return np.ones(64)
    if name == "freq_cds":
        fixed = pinned(cut(text), table)
        counts = Counter(codon for place, codon in enumerate(cut(text)) if place not in fixed)
        return np.array([counts[codon] for codon in CODONS], float)
    return USAGE.loc[{"freq_species": "human", "freq_global": "all", "transplant(mouse)": "mouse"}[name]].to_numpy()


@pytest.mark.parametrize("name", DRAWS)
@few
@anything
def test_codons_of_no_probability_are_never_drawn(name, codons, table, seed, has_start):
    text = "".join(codons)
    (new,) = run([text], name, table=table, seed=seed)
    weights = wanted_probabilities(name, text, table)
    for place in set(range(len(codons))) - pinned(codons, table):
        assert weights[CODONS.index(cut(new)[place])] > 0


def long_text(codons=40_000):
    rng = np.random.default_rng(5)
    weights = rng.random(64) ** 2
    return "ATG" + "".join(rng.choice(CODONS, codons, p=weights / weights.sum()))


@pytest.mark.parametrize("table", [1, 2])
@pytest.mark.parametrize("name", DRAWS)
def test_codons_are_drawn_with_their_probabilities(name, table):
    text = long_text()
    (new,) = run([text], name, table=table, seed=1)
    free = sorted(set(range(len(cut(text)))) - pinned(cut(text), table))
    drawn = Counter(np.array(cut(new))[free].tolist())
    weights = wanted_probabilities(name, text, table)
    tested = 0
    for amino_acid in sorted({letter(codon, table) for codon in CODONS} - {"*"}):
        family = [i for i in genetic_code(table).synonyms(amino_acid) if weights[i] > 0]
        if len(family) > 1:
            seen = np.array([drawn[CODONS[i]] for i in family])
            assert chisquare(seen, weights[family] / weights[family].sum() * seen.sum()).pvalue > 1e-6
            tested += 1
    assert tested >= 8


def test_draws_of_neighbours_are_independent():
    (new,) = run(["TGG" + "AAA" * 20_000], "uniform", seed=3)
    pairs = Counter(pairwise(cut(new)[1:]))
    assert len(pairs) == 4
    assert chisquare(list(pairs.values())).pvalue > 1e-6


def test_the_expected_identity_of_uniform_draws():
    text = long_text()
    (new,) = run([text], "uniform", seed=2)
    size = genetic_code(1).size[[CODONS.index(codon) for codon in cut(text)]]
    fixed = pinned(cut(text), 1)
    expected = np.mean([1.0 if place in fixed else 1 / n for place, n in enumerate(size)])
    assert np.mean(np.array(cut(new)) == np.array(cut(text))) == pytest.approx(expected, abs=0.01)


def test_an_amino_acid_seen_with_one_codon_keeps_it_under_freq_cds():
    text = "TGG" + "AAA" * 30 + "GCTGCC" * 30
    (new,) = run([text], "freq_cds")
    assert cut(new)[1:31] == ["AAA"] * 30
    assert set(cut(new)[31:]) == {"GCT", "GCC"}


def test_each_sample_is_drawn_with_the_usage_of_its_species():
    usage = pd.DataFrame(1.0, ["human", "mouse"], list(CODONS))
    usage.loc["human", "AAA"] = usage.loc["mouse", "AAG"] = 0.0
    texts = ["GCC" + "AAAAAG" * 20] * 4
    found = run(texts, "freq_species", species=["human", "mouse", "mouse", "human"], usage=usage)
    assert [set(cut(one)[1:]) for one in found] == [{"AAG"}, {"AAA"}, {"AAA"}, {"AAG"}]


# ---- random numbers: the definition, written again without any speed ------------------------------


def words_of(name, seed, id_, text):
    key = hashlib.sha256(f"{name}|{seed}|{id_}|{text}".encode()).digest()[:16]
    return np.random.Philox(key=int.from_bytes(key, "little")).random_raw(len(text) // 3)


def shuffled_by_definition(text, table, words, window=None):
    codons = np.array(cut(text))
    window = window or len(codons)
    free = [i for i in range(len(codons)) if i not in pinned(cut(text), table)]
    group = np.array([f"{i // window:09d}{letter(codons[i], table)}" for i in free])
    base = np.argsort(group, kind="stable")
    order = np.lexsort((words[free] >> np.uint64(38), group))
    new = codons.copy()
    new[np.array(free, int)[base]] = codons[np.array(free, int)[order]]
    return "".join(new)


def drawn_by_definition(text, table, words, weights):
    new = cut(text)
    for place in set(range(len(new))) - pinned(new, table):
        family = [i for i in range(64) if letter(CODONS[i], table) == letter(new[place], table)]
        uniform = int(words[place] >> np.uint64(11)) / 2**53
        cumulative = np.cumsum(weights[family])
        new[place] = CODONS[family[int(np.searchsorted(cumulative / cumulative[-1], uniform, side="right"))]]
    return "".join(new)


@few
@given(st.lists(SEQUENCES.filter(bool), min_size=1, max_size=4), TABLE, st.integers(0, 9))
def test_shuffles_are_as_defined(sequences, table, seed):
    texts = ["".join(codons) for codons in sequences]
    for name, window in (("permuted", None), ("window_permuted(5)", 5)):
        found = run(texts, name, table=table, seed=seed)
        for number, text in enumerate(texts):
            words = words_of(name, seed, f"id{number}", text)
            assert found[number] == shuffled_by_definition(text, table, words, window)


@few
@given(st.lists(SEQUENCES.filter(bool), min_size=1, max_size=4), TABLE, st.integers(0, 9))
def test_draws_are_as_defined(sequences, table, seed):
    texts = ["".join(codons) for codons in sequences]
    for name in DRAWS:
        found = run(texts, name, table=table, seed=seed)
        for number, text in enumerate(texts):
            words = words_of(name, seed, f"id{number}", text)
            weights = wanted_probabilities(name, text, table)
            assert found[number] == drawn_by_definition(text, table, words, weights)


GOLDEN = {
    "permuted": "ATGGCCAAAGCTTTACTGAAGGCACTGGCCTGGGCATGGGCTTGGGCTTGGTAA",
    "freq_cds": "ATGGCCAAGGCACTGCTGAAGGCACTGGCCTGGGCATGGGCTTGGGCATGGTAA",
    "uniform": "ATGGCCAAAGCTCTATTAAAGGCGTTAGCGTGGGCGTGGGCGTGGGCGTGGTAA",
    "window_permuted(4)": "ATGGCCAAAGCTTTACTGAAGGCTCTGGCTTGGGCATGGGCATGGGCCTGGTAA",
    "codonpair_preserving": "ATGGCTAAAGCCTTACTGAAGGCTCTGGCATGGGCTTGGGCATGGGCCTGGTAA",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_results_stay_what_they_were(name):
    """Stores hold tasks made with these random numbers: a change of them needs a new strategy name."""
    assert run(["ATGGCTAAAGCCTTACTGAAGGCTCTGGCATGGGCTTGGGCCTGGGCATGGTAA"], name, seed=1) == [GOLDEN[name]]


# ---- a sample's result is its own ----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15)
@given(st.lists(SEQUENCES, min_size=2, max_size=6), TABLE, st.randoms(use_true_random=False))
def test_neither_order_nor_company_matters(name, sequences, table, random):
    texts = ["".join(codons) for codons in sequences]
    parent = texts[0]
    if "shared" in name:
        texts = [text for text in texts if len(text) == len(parent)]
    ids = [f"id{i}" for i in range(len(texts))]
    together = dict(zip(ids, run(texts, name, ids=ids, table=table, parent=parent), strict=True))
    rows = list(range(len(texts)))
    random.shuffle(rows)
    rows = rows[: random.randint(1, len(rows))]
    apart = run([texts[i] for i in rows], name, ids=[ids[i] for i in rows], table=table, parent=parent)
    assert apart == [together[ids[i]] for i in rows]


@pytest.mark.parametrize("name", CHANGING)
def test_results_differ_between_seeds_and_ids(name):
    text = "ATG" + "".join(np.random.default_rng(0).permutation(["AAA", "AAG", "GCT", "GCC", "GCA"] * 20))
    first = run([text, text], name, ids=["a", "b"])
    assert run([text], name, ids=["a"]) == first[:1]
    assert run([text], name, ids=["a"], seed=1) != first[:1]
    assert (first[0] == first[1]) == ("shared" in name)


@pytest.mark.parametrize("name", [name for name in NAMES if "shared" not in name])
@pytest.mark.parametrize("before", [1, 2, 7])
def test_what_stands_before_does_not_matter(name, before):
    """With four codons many places have the same neighbours, so that every step of every strategy has work to do."""
    text = "".join(np.random.default_rng(4).choice(["AAA", "AAG", "GCT", "GCC"], 300))
    assert run(["GCT" * before, text], name, ids=["x", "a"])[1:] == run([text], name, ids=["a"])


def test_many_samples_are_recoded_as_each_alone():
    """More than fit in one chunk, of lengths from none to many codons."""
    rng = np.random.default_rng(1)
    texts = ["".join(rng.choice(CODONS, n)) for n in [*rng.integers(0, 400, 300).tolist(), 70_000, 5]]
    ids = [str(i) for i in range(len(texts))]
    for name in ("permuted", "window_permuted(2)", "codonpair_preserving", "freq_cds", "freq_species"):
        species = ["human" if i % 2 else "mouse" for i in range(len(texts))]
        together = run(texts, name, ids=ids, species=species)
        for i in (0, 17, 150, 299, 300, 301):
            assert run([texts[i]], name, ids=[ids[i]], species=[species[i]]) == [together[i]]


def test_more_samples_than_one_chunk_takes():
    texts = ["AAAAAG"] * 9000
    ids = [str(i) for i in range(len(texts))]
    together = run(texts, "codonpair_preserving", ids=ids)
    assert set(together) == {"AAAAAG"}
    together = run(texts, "uniform", ids=ids)
    assert run(texts[8500:8510], "uniform", ids=ids[8500:8510]) == together[8500:8510]


def test_samples_of_several_genetic_codes():
    text = "GCCATAATGTGATGG" * 20
    together = run([text] * 3, "uniform", table=[1, 2, 1])
    assert [amino_acids(new, table) for new, table in zip(together, [1, 2, 1], strict=True)] == [
        amino_acids(text, table) for table in [1, 2, 1]
    ]
    assert "TGA" in cut(together[1])[3::5]  # W has two codons in table 2
    assert "TGG" in cut(together[1])[3::5]
    assert run([text] * 3, "uniform", table=1)[::2] == together[::2]


def test_no_sequences():
    assert [run([], name, parent="AAA") for name in NAMES] == [[]] * len(NAMES)


# ---- shared recodings ----------------------------------------------------------------------------


PARENT = "ATG" + "".join(np.random.default_rng(2).choice([c for c in CODONS if letter(c, 1) != "*"], 119))
SHARED = ("permuted_shared", "uniform_shared")


def variants(count=60):
    """Variants of the parent, with one to three substitutions of any codon each."""
    rng = np.random.default_rng(3)
    made = []
    for _ in range(count):
        codons = cut(PARENT)
        for place in rng.choice(np.arange(1, 120), rng.integers(1, 4), replace=False):
            codons[place] = str(rng.choice(CODONS))
        made.append("".join(codons))
    return made


@pytest.mark.parametrize("name", SHARED)
def test_variants_share_the_recoding_of_their_parent(name):
    texts = variants()
    parent, *found = run([PARENT, *texts], name)
    assert parent != PARENT
    drawn = {}
    for text, new in zip(texts, found, strict=True):
        assert amino_acids(new, 1) == amino_acids(text, 1)
        for place, (wild, codon, mine) in enumerate(zip(cut(parent), cut(new), cut(text), strict=True)):
            if letter(mine, 1) == letter(wild, 1):
                assert codon == wild
            else:
                assert drawn.setdefault((place, letter(mine, 1)), codon) == codon  # one codon for all of them
    assert len(drawn) > 50


def test_shared_permutation_and_shared_draws_of_the_parent():
    (permuted,) = run([PARENT], "permuted_shared", parent=PARENT)
    (uniform,) = run([PARENT], "uniform_shared", parent=PARENT)
    assert Counter(cut(permuted)) == Counter(cut(PARENT))
    assert Counter(cut(uniform)) != Counter(cut(PARENT))


def test_new_amino_acids_get_codons_of_the_parents_usage():
    """The parent has lysine as AAA only, and no phenylalanine."""
    parent = "ATG" + "AAA" * 5 + "GCC" * 100
    texts = ["ATG" + "AAA" * 5 + "GCC" * i + codon + "GCC" * (99 - i) for codon in ("AAG", "TTT") for i in range(100)]
    permuted = run(texts, "permuted_shared", parent=parent)
    uniform = run(texts, "uniform_shared", parent=parent)
    new = [[cut(one)[6 + i % 100] for i, one in enumerate(found)] for found in (permuted, uniform)]
    assert set(new[0][:100]) == {"AAA"}
    assert set(new[1][:100]) == {"AAA", "AAG"}
    for found in new:
        assert chisquare(list(Counter(found[100:]).values())).pvalue > 1e-6
        assert set(found[100:]) == {"TTT", "TTC"}


def test_synonymous_variants_become_the_parent():
    text = PARENT[:30] + {"AAA": "AAG"}.get(PARENT[30:33], PARENT[30:33]) + PARENT[33:]
    codons = cut(PARENT)
    place = next(i for i, c in enumerate(codons) if len(genetic_code(1).synonyms(letter(c, 1))) == 6)
    codons[place] = next(
        CODONS[i] for i in genetic_code(1).synonyms(letter(codons[place], 1)) if CODONS[i] != codons[place]
    )
    for name in SHARED:
        parent, one, other = run([PARENT, text, "".join(codons)], name)
        assert one == other == parent


def test_consensus_finds_the_parent():
    assert decode(consensus([encode(text) for text in variants()])) == PARENT


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], r"one length; these 0 sequences have \[\]"),
        (["AAA", "AAAAAA"], r"one length; these 2 sequences have \[3, 6\]"),
        (["GCCAAA", "GCCAAG"], r"at codon 1 \(0-based\) no codon is in more than half of the 2 sequences"),
        (["NNN", "NNN"], r"at codon 0 \(0-based\) no codon is in more than half"),
    ],
)
def test_sequences_that_are_no_variants_have_no_consensus(texts, message):
    with pytest.raises(InputError, match=message):
        consensus([encode(text) for text in texts])


@pytest.mark.parametrize("name", SHARED)
def test_variants_of_another_length_are_refused(name):
    with pytest.raises(
        InputError, match=rf"coding sequence 'id1' has 2 codons, the parent 3: {name} takes substitutions"
    ):
        run(["AAAAAAAAA", "AAAAAA"], name)


# ---- bad input -----------------------------------------------------------------------------------


def test_the_catalogue():
    assert set(STRATEGIES) == {name.split("(")[0] for name in NAMES}
    assert all(key == one.name and one.text for key, one in STRATEGIES.items())
    assert parse_strategy(" window_permuted ( 08 ) ")[1] == "8"
    assert parse_strategy("transplant(Escherichia coli (K12))")[1] == "Escherichia coli (K12)"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("permutted", r"There is no codon strategy 'permutted'\. Did you mean 'permuted'\?"),
        ("", "There is no codon strategy ''"),
        ("permuted(8)", "Codon strategy 'permuted\\(8\\)' is written 'permuted'"),
        ("window_permuted", r"is written 'window_permuted\(w\)'"),
        ("window_permuted()", r"is written 'window_permuted\(w\)'"),
        ("transplant", r"is written 'transplant\(species\)'"),
        ("window_permuted(0)", "the window is a number of codons from 1 on, not '0'"),
        ("window_permuted(two)", "not 'two'"),
        ("window_permuted(-1)", "not '-1'"),
        ("window_permuted(²)", "not '²'"),
    ],
)
def test_strategies_that_are_none(name, message):
    with pytest.raises(InputError, match=message):
        parse_strategy(name)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("freq_species", "usage"),
        ("freq_global", "usage"),
        ("transplant(mouse)", "usage"),
        ("permuted_shared", "parent"),
        ("uniform_shared", "parent"),
    ],
)
def test_what_a_strategy_needs_must_be_there(name, what):
    with pytest.raises(InputError, match=rf"needs {what}=; see embedstore\.coding\.recode"):
        recode([encode("AAA")], name, ids=["a"])


def test_species_must_be_there_and_known():
    with pytest.raises(InputError, match="needs species="):
        recode([encode("AAA")], "freq_species", ids=["a"], usage=USAGE)
    with pytest.raises(InputError, match=r"has 0 rows for 'humen'; one is wanted\. Did you mean 'human'\?"):
        run(["AAA"], "freq_species", species=["humen"])
    with pytest.raises(InputError, match="has 0 rows for 'rat'"):
        run(["AAA"], "transplant(rat)")
    with pytest.raises(InputError, match="has 0 rows for 'all'"):
        run(["AAA"], "freq_global", usage=USAGE.drop(index="all"))


@pytest.mark.parametrize(
    "options", [{"ids": []}, {"table": [1, 1]}, {"species": []}, {"has_start": [True, True]}, {"pinned": []}]
)
def test_arguments_of_other_lengths_are_refused(options):
    (what,) = options
    with pytest.raises(InputError, match=f"{what} has {len(options[what])} entries for 1 coding sequences"):
        run(["AAA"], "uniform", **options)


@pytest.mark.parametrize("name", ["true", "permuted", "uniform"])
def test_sequences_that_are_not_whole_codons_are_refused(name):
    with pytest.raises(InputError, match="coding sequence 'id1': not_multiple_of_3: it has 4 nucleotides"):
        run(["AAA", "AAAA"], name)


def test_an_unknown_table_is_refused():
    with pytest.raises(InputError, match="There is no genetic code 8"):
        run(["AAA"], "permuted", table=8)


@pytest.mark.parametrize("place", [2, -1])
def test_pinned_places_outside_the_sequence_are_refused(place):
    with pytest.raises(
        InputError, match=f"coding sequence 'id0': codon {place} is to be pinned; it has the codons 0 to 1"
    ):
        run(["AAAAAA"], "uniform", pinned=[[0, place]])


def test_usage_estimated_here_can_be_drawn_with():
    texts = [PARENT, PARENT[3:]]
    usage = codon_usage([encode(text) for text in texts], ["human", "mouse"])
    assert amino_acids(run([PARENT], "freq_species", usage=usage)[0], 1) == amino_acids(PARENT, 1)
