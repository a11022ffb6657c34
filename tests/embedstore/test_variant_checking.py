"""Every variant against the genome: planted mismatches, whole files that are wrong in one way, and each bad input."""

from __future__ import annotations

import logging
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.errors import InputError, ReferenceMismatchError
from embedstore.genome import Genome
from embedstore.simulate import simulate_genome, write_fasta
from embedstore.variants import reference
from embedstore.variants.checking import REASONS, check_variants, match_rates, mismatches
from embedstore.variants.reasons import Reasons

SIM = simulate_genome(240_000, chromosomes=3, seed=4)
TEXT = {name: codes.tobytes().decode() for name, codes in SIM.contigs.items()}
LETTERS = "ACGT"


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    with Genome(write_fasta(tmp_path_factory.mktemp("genome") / "genome.fa", SIM.contigs)) as genome:
        yield genome


def tiny(folder, contigs, **options):
    path = folder / "tiny.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in contigs.items()))
    return Genome(path, **options)


def table(*rows):
    return pd.DataFrame(rows, columns=["chromosome", "position", "ref", "alt"])


def snvs(count, seed=0, text=TEXT):
    """Single-nucleotide variants with the reference letter of a text, not in order."""
    rng = np.random.default_rng(seed)
    rows = []
    for name, place in zip(rng.choice(list(text), count), rng.random(count), strict=True):
        position = int(place * len(text[name]))
        ref = text[name][position]
        rows.append((name, position, ref, str(rng.choice(sorted(set(LETTERS) - {ref})))))
    return table(*rows)


def mixed(count, seed=0):
    """All kinds of variants, a third of them single-nucleotide ones."""
    rng = np.random.default_rng(seed)
    rows = []
    for row in snvs(count, seed).itertuples(index=False):
        name, position, ref, alt = row
        kind = rng.integers(6)
        longer = TEXT[name][position : position + int(rng.integers(2, 9))]
        drawn = "".join(rng.choice(list(LETTERS), int(rng.integers(1, 9))))
        if kind == 0:
            ref, alt = longer, longer[0]
        elif kind == 1:
            alt = ref + drawn
        elif kind == 2:
            ref, alt = longer, drawn
        elif kind == 3:
            ref, alt = longer, alt + longer[1:]  # padded
        rows.append((name, position, ref, alt if alt != ref else ref + "A"))
    return table(*rows)


def haplotype(text, start, removed, added):
    assert text[start : start + len(removed)] == removed
    return text[:start] + added + text[start + len(removed) :]


# ---- sound tables ------------------------------------------------------------------------------------


def test_what_is_found_makes_the_same_haplotype(genome):
    given = mixed(2000)
    checked = check_variants(given, genome)
    assert (checked["reason"] == "").all()
    pd.testing.assert_frame_equal(checked[list(given)], given)
    for row in checked.itertuples():
        text = TEXT[row.chromosome]
        assert haplotype(text, row.start, row.removed, row.added) == haplotype(text, row.position, row.ref, row.alt)
        sizes = len(row.removed), len(row.added)
        wanted = "snv" if sizes == (1, 1) else "mnv" if sizes[0] == sizes[1] else "delins"
        wanted = "insertion" if not sizes[0] else "deletion" if not sizes[1] else wanted
        assert row.kind == wanted
    assert set(checked["kind"]) == {"snv", "mnv", "insertion", "deletion", "delins"}
    # A place further left would make another haplotype: there the last letter is not the one before the change.
    moved = checked[checked["kind"].isin(["insertion", "deletion"]) & (checked["start"] > 0)]
    assert len(moved) > 300
    assert all(TEXT[row.chromosome][row.start - 1] != (row.removed or row.added)[-1] for row in moved.itertuples())


def test_the_missing_columns_are_added_and_the_others_kept(genome):
    given = snvs(3).assign(gene=["a", "b", "c"], start=7, kind="x").set_index(pd.Index([5, 5, 9]))
    checked = check_variants(given, genome)
    assert checked.index.tolist() == [0, 1, 2]
    assert checked["record"].tolist() == [0, 1, 2]
    assert checked[["allele", "line", "id"]].drop_duplicates().to_numpy().tolist() == [[1, -1, ""]]
    assert checked["start"].tolist() == given["position"].tolist()
    assert checked["gene"].tolist() == ["a", "b", "c"]
    assert list(checked)[-5:] == ["reason", "kind", "start", "removed", "added"]
    assert {str(checked[name].dtype) for name in ("record", "allele", "line", "position", "start")} == {"int64"}
    pd.testing.assert_frame_equal(check_variants(checked, genome), checked)
    kept = check_variants(given.assign(record=[4, 4, 5], allele=[1, 2, 1], line=[8, 8, 9], id="rs1"), genome)
    assert kept[["record", "allele", "line", "id"]].to_numpy().tolist() == [
        [4, 1, 8, "rs1"],
        [4, 2, 8, "rs1"],
        [5, 1, 9, "rs1"],
    ]
    assert given["start"].tolist() == [7, 7, 7]  # the caller's own table is left alone


def test_the_case_of_letters_means_nothing(tmp_path):
    with tiny(tmp_path, {"1": "acgtACGT"}) as genome:
        checked = check_variants(table((1, 1, "c", "T"), (1, 5, "Cg", "c")), genome)
    assert checked[["chromosome", "ref", "alt"]].to_numpy().tolist() == [["1", "C", "T"], ["1", "CG", "C"]]
    assert checked["reason"].tolist() == ["", ""]


def test_variants_given_twice_are_treated_alike(genome):
    checked = check_variants(pd.concat([mixed(50)] * 2), genome)
    one, other = checked.iloc[:50].drop(columns="record"), checked.iloc[50:].drop(columns="record")
    pd.testing.assert_frame_equal(one, other.reset_index(drop=True))


def test_near_the_ends_of_a_chromosome(genome):
    text, rows = TEXT["chr2"], []
    size = len(text)
    for position in [*range(11), *range(size - 11, size)]:
        rows += [("chr2", position, text[position], {"A": "C"}.get(text[position], "A"))]
        rows += [("chr2", position, text[position : position + 2], text[position])] if position + 2 <= size else []
        rows += [("chr2", position, text[position], text[position] + "TTT")]
    checked = check_variants(table(*rows), genome)
    assert (checked["reason"] == "").all()
    assert checked["start"].between(0, size).all()
    for row in checked.itertuples():
        assert haplotype(text, row.start, row.removed, row.added) == haplotype(text, row.position, row.ref, row.alt)


@pytest.mark.parametrize(("gap", "span", "batch"), [(0, 1 << 20, 1), (2048, 50, 60), (10, 1000, 300), (7, 1, 1)])
def test_pieces_of_any_size_give_the_same(genome, monkeypatch, gap, span, batch):
    given = mixed(300)
    given.loc[::7, "ref"] = "ACGTTGCATTGACA"
    wanted = check_variants(given, genome, drop_mismatches=True)
    rates = match_rates(given, genome)
    for name, size in (("_GAP", gap), ("_SPAN", span), ("_BATCH", batch)):
        monkeypatch.setattr(reference, name, size)
    pd.testing.assert_frame_equal(check_variants(given, genome, drop_mismatches=True), wanted)
    pd.testing.assert_frame_equal(match_rates(given, genome), rates)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_comparison_against_plain_text(tmp_path_factory, data):
    texts = data.draw(st.dictionaries(st.sampled_from("abc"), st.text("ACGTNR", min_size=1, max_size=30), min_size=1))
    rows = data.draw(
        st.lists(
            st.tuples(st.sampled_from(sorted(texts)), st.integers(-3, 33), st.text("ACGT", min_size=1, max_size=4)),
            min_size=1,
            max_size=12,
        )
    )
    wanted = []
    for name, start, allele in rows:
        there = texts[name][start : start + len(allele)] if start >= 0 else ""
        pairs = [pair for pair in zip(there, allele, strict=False) if pair[0] in "ACGT"]
        whole = len(there) == len(allele)
        differs = whole and any(a != b for a, b in pairs)
        wanted.append(
            reference.DIFFERS if differs else int(whole and len(pairs) == len(there)) or reference.NOT_COMPARED
        )
    with tiny(tmp_path_factory.mktemp("one"), texts) as genome:
        starts = np.array([row[1] for row in rows])
        found = reference.compare(genome, [row[0] for row in rows], {"x": (starts, [row[2] for row in rows])})
    assert found["x"].tolist() == wanted


# ---- mismatches --------------------------------------------------------------------------------------


def planted(count=10_000, share=0.01, seed=1):
    """A table of which some rows have one letter of their reference allele changed."""
    given = mixed(count, seed)
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(count, int(count * share), replace=False))
    for row in rows.tolist():
        ref = given.loc[row, "ref"]
        place = int(rng.integers(len(ref)))
        changed = rng.choice(sorted(set(LETTERS) - {ref[place]}))
        given.loc[row, "ref"] = ref[:place] + changed + ref[place + 1 :]
    return given, rows


def test_one_percent_of_mismatches_is_found_and_no_other(genome, caplog):
    given, rows = planted()
    with pytest.raises(ReferenceMismatchError) as caught:
        check_variants(given, genome)
    said = str(caught.value)
    assert "100 of 10,000 variants (1 %) have a reference allele that differs from the genome" in said
    first = given.loc[rows[0]]
    there = TEXT[first.chromosome][first.position : first.position + len(first.ref)]
    assert (
        f"row {rows[0]}: {first.chromosome}:{first.position} (0-based) {first.ref}>{first.alt}, genome {there};" in said
    )
    assert f"row {rows[4]}:" in said
    assert f"row {rows[5]}:" not in said
    assert "99 % match as given: build and positions fit, these rows seem to be wrong by themselves." in said
    assert "drop_mismatches=True" in said
    assert caught.value.mismatches.index.tolist() == rows.tolist()
    with caplog.at_level(logging.WARNING):
        checked = check_variants(given, genome, drop_mismatches=True)
    assert "100 of 10,000 variants" in caplog.text
    assert np.flatnonzero(checked["reason"] != "").tolist() == rows.tolist()
    assert mismatches(checked).index.tolist() == rows.tolist()
    assert checked.loc[rows[0], "reason"] == f"The reference allele differs from the genome, which has {there} here."
    left = checked.loc[rows, ["kind", "start", "removed", "added"]].drop_duplicates()
    assert left.to_numpy().tolist() == [["", -1, "", ""]]


def test_the_error_knows_the_line_and_survives_pickling(genome):
    given = snvs(30).assign(line=range(101, 131))
    given.loc[3, "ref"] = next(letter for letter in LETTERS if letter not in tuple(given.loc[3, ["ref", "alt"]]))
    with pytest.raises(ReferenceMismatchError, match=r"line 104: chr\d:\d+ \(0-based\)") as caught:
        check_variants(given, genome)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value)
    pd.testing.assert_frame_equal(again.mismatches, caught.value.mismatches)


def test_long_alleles_are_cut_in_messages(genome):
    given = snvs(20)
    given.loc[0] = ["chr1", 500, "A" * 60, "A"]
    with pytest.raises(ReferenceMismatchError) as caught:
        check_variants(given, genome)
    assert f"{'A' * 30}...>A, genome {TEXT['chr1'][500:530]}..." in str(caught.value)


COMPLEMENT = str.maketrans("ACGT", "TGCA")


def strand(given):
    flipped = {name: [text.translate(COMPLEMENT)[::-1] for text in given[name]] for name in ("ref", "alt")}
    return given.assign(**flipped)


WRONG_FILES = {
    "one to the left": (lambda given: given.assign(position=given["position"] + 1), "one too large"),
    "one to the right": (lambda given: given.assign(position=given["position"] - 1), "one too small"),
    "other strand": (strand, "on the other strand"),
    "ref and alt exchanged": (lambda given: given.assign(ref=given["alt"], alt=given["ref"]), "exchanged"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
@pytest.mark.parametrize("sort", ["snvs", "mixed"])
def test_a_file_that_is_wrong_throughout_is_recognised(genome, name, sort):
    change, said = WRONG_FILES[name]
    given = snvs(1000) if sort == "snvs" else mixed(1000)
    if name == "ref and alt exchanged" and sort == "mixed":
        given = given[given["ref"].str.len() == given["alt"].str.len()]
    given = given[given["position"].between(1, 79_980)]
    given.loc[given.index[:20], "ref"] = "N"  # not compared
    rates = match_rates(change(given), genome).set_index("hypothesis")
    assert rates.loc[name, "rate"] == 1
    assert rates.loc[name, ["matches", "compared"]].tolist() == [len(given) - 20] * 2
    assert (rates["rate"].drop(name) < 0.45).all()
    with pytest.raises(ReferenceMismatchError, match=rf"100 % match {name}, [\d.]+ % as given: .*{said}"):
        check_variants(change(given), genome)


def test_a_part_that_is_wrong_in_one_way_is_recognised(genome):
    given = snvs(1000)
    part = given.index[::10]
    given.loc[part, ["ref", "alt"]] = given.loc[part, ["alt", "ref"]].to_numpy()
    with pytest.raises(
        ReferenceMismatchError, match=r"100 of 1,000 .*Of those that differ, 100 % match ref and alt exch"
    ):
        check_variants(given, genome)


def test_another_build_is_recognised(tmp_path, genome):
    other = simulate_genome(240_000, chromosomes=3, seed=5)
    given = snvs(1000, text={name: codes.tobytes().decode() for name, codes in other.contigs.items()})
    rates = match_rates(given, genome)
    assert rates["hypothesis"].tolist() == ["as given", *WRONG_FILES]
    assert rates["rate"].between(0.18, 0.4).all()
    with pytest.raises(ReferenceMismatchError, match=r"No reading .* about 25 % \(matches: .*\): .* another build"):
        check_variants(given, genome)
    half = pd.concat([given.iloc[:400], snvs(600)])
    with pytest.raises(ReferenceMismatchError, match="part of the file may be for another build"):
        check_variants(half, genome)


def test_few_rows_are_no_ground_for_a_diagnosis(genome):
    given = snvs(7)
    with pytest.raises(ReferenceMismatchError, match="too few variants to say why"):
        check_variants(given.assign(ref=given["alt"], alt=given["ref"]), genome)
    with pytest.raises(ReferenceMismatchError, match="100 % match ref and alt exchanged"):
        check_variants(snvs(8).assign(ref=snvs(8)["alt"], alt=snvs(8)["ref"]), genome)


def test_rates_where_nothing_can_be_compared(genome):
    rates = match_rates(snvs(5).assign(alt="<DEL>"), genome)
    assert rates["compared"].tolist() == [0] * 5
    assert rates["rate"].isna().all()
    rates = match_rates(table(("chr1", 0, TEXT["chr1"][0], "T"), ("x", 0, "A", "C")), genome)
    assert rates["compared"].tolist() == [1, 0, 1, 1, 1]  # there is nothing left of the first nucleotide


# ---- rows that are not scored ----------------------------------------------------------------------------

SIZE = len(TEXT["chr1"])
FIRST, LAST = TEXT["chr1"][0], TEXT["chr1"][-1]
ODD_ROWS = {
    "unknown": (("chrX", 5, "A", "C"), "The genome has no chromosome 'chrX'."),
    "other name": (("1", 5, "A", "C"), "The genome has no chromosome '1'. The genome calls it 'chr1': .*"),
    "before": (("chr1", -1, "A", "C"), "The position -1 (0-based) is before the start of the chromosome."),
    "past": (("chr1", SIZE, "A", "C"), REASONS["past"].format(end="80,001", size="80,000")),
    "last and more": (("chr1", SIZE - 1, LAST + "A", LAST), f"The reference allele ends at {SIZE + 1:,}, past .*"),
    "far past": (("chr1", 2**63 - 1, "A", "C"), "The reference allele ends at 9,223,372,036,854,775,808, past .*"),
    "no reference": (("chr1", 0, "", "C"), "The reference allele is empty."),
    "point reference": (("chr1", 0, ".", "C"), "The reference allele is empty."),
    "N": (("chr1", 0, "NR", "C"), "The reference allele has letters other than A, C, G and T: N, R."),
    "dash": (("chr1", 0, "-", "C"), "The reference allele has letters other than A, C, G and T: -."),
    "not ASCII": (("chr1", 0, "É", "C"), "The reference allele has letters other than A, C, G and T: É."),
    "none": (("chr1", 0, FIRST, ""), "There is no alternate allele."),
    "point": (("chr1", 0, FIRST, "."), "There is no alternate allele."),
    "star": (("chr1", 0, FIRST, "*"), "The alternate allele is '*': a deletion that begins before spans this place."),
    "symbolic": (("chr1", 0, FIRST, "<DEL>"), "The alternate allele is symbolic: <DEL>."),
    "any": (("chr1", 0, FIRST, "<*>"), "The alternate allele is symbolic: <*>."),
    "mate": (("chr1", 0, FIRST, "g]17:198982]"), "The alternate allele is a breakend: g]17:198982]."),
    "named mate": (("chr1", 0, FIRST, "C[<ctg1>:7["), "The alternate allele is a breakend: C[<ctg1>:7[."),
    "single": (("chr1", 0, FIRST, "G."), "The alternate allele is a breakend: G.."),
    "single before": (("chr1", 0, FIRST, ".G"), "The alternate allele is a breakend: .G."),
    "letters": (("chr1", 0, FIRST, "AYN"), "The alternate allele has letters other than A, C, G and T: N, Y."),
    "equal": (("chr1", 0, FIRST, FIRST.lower()), "The alternate allele equals the reference allele."),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_ROWS)
def test_a_row_that_cannot_be_scored_stays_with_its_reason(genome, name):
    row, reason = ODD_ROWS[name]
    given = pd.concat([snvs(2), table(row), snvs(1)], ignore_index=True)
    checked = check_variants(given, genome)
    assert (checked["reason"] == "").tolist() == [True, True, False, True]
    said = checked.loc[2, "reason"]
    assert said.startswith(reason.removesuffix(".*")) if reason.endswith(".*") else said == reason
    assert checked.loc[2, ["kind", "start", "removed", "added"]].tolist() == ["", -1, "", ""]
    alone = check_variants(given.drop(index=2), genome)
    pd.testing.assert_frame_equal(
        checked.drop(index=2, columns="record").reset_index(drop=True), alone.drop(columns="record")
    )


def test_every_row_is_kept_in_order(genome):
    rows = [row for row, _ in ODD_ROWS.values()]
    given = pd.concat([table(*rows), snvs(50), table(*rows)], ignore_index=True)
    checked = check_variants(given, genome)
    assert checked["position"].tolist() == given["position"].tolist()
    assert np.flatnonzero(checked["reason"] == "").tolist() == list(range(len(rows), len(rows) + 50))


def test_a_wrong_reference_comes_before_what_the_alternate_is(genome):
    wrong = next(letter for letter in LETTERS if letter != FIRST)
    for alt in ("<DEL>", "", "*", wrong):
        with pytest.raises(ReferenceMismatchError, match="1 of 4 variants"):
            check_variants(pd.concat([snvs(3), table(("chr1", 0, wrong, alt))]), genome)


def test_letters_that_are_unknown_or_refused(tmp_path):
    contigs = {"a": "AANNACGRACGT", "b": "AAAAAAAAAAAA"}
    given = table(
        ("a", 1, "AN", "A"), ("a", 2, "A", "C"), ("a", 3, "GA", "G"), ("a", 7, "A", "C"), ("a", 6, "GA", "G"),
        ("a", 6, "CA", "C"), ("a", 8, "A", "C"), ("b", 6, "A", "AA"), ("a", 4, "AC", "A"), ("a", 8, "", "G"),
        ("a", 8, "ACGT", "ACG"),
    )  # fmt: skip
    unknown = "The genome has the letter N here: "
    with tiny(tmp_path, contigs, other_letters="N") as genome:
        reasons = check_variants(given, genome, drop_mismatches=True)["reason"].tolist()
    assert reasons[0] == "The reference allele has letters other than A, C, G and T: N."
    assert reasons[1] == f"{unknown}N."
    assert reasons[2] == f"{unknown}NA."
    assert reasons[3:6] == [
        f"{unknown}N.",
        f"{unknown}GN.",
        "The reference allele differs from the genome, which has GN here.",
    ]
    with tiny(tmp_path, contigs) as genome:
        checked = check_variants(given, genome, drop_mismatches=True)
    said = checked["reason"].tolist()
    refused = f"The genome gives no letters here: {tmp_path / 'tiny.fa'}:2: a:7 (0-based): letter 'R' is none of A, C"
    assert said[3].startswith(refused)
    assert "other_letters='N'" in said[3]
    assert said[4].startswith(refused)
    assert said[5] == "The reference allele differs from the genome, which has G? here."
    assert [text == "" for text in said[6:]] == [True, True, True, False, True]
    assert checked.loc[7, "start"] == 0
    assert checked.loc[10, ["start", "removed"]].tolist() == [11, "T"]


def test_an_indel_next_to_a_refused_letter_moves_up_to_it(tmp_path):
    with tiny(tmp_path, {"a": "CAAARAAAAAAAAT"}) as genome:
        checked = check_variants(table(("a", 12, "A", "AA")), genome)
    assert checked.loc[0, ["start", "removed", "added"]].tolist() == [5, "", "A"]


# ---- tables that are refused --------------------------------------------------------------------------------


def test_names_with_chr_where_the_genome_has_none(genome, tmp_path):
    with pytest.raises(InputError, match=r"none of the chromosomes .* '\d' for one\. The genome calls it 'chr\d'"):
        check_variants(snvs(20).assign(chromosome=snvs(20)["chromosome"].str[3:]), genome)
    with (
        tiny(tmp_path, {"1": "ACGT"}) as other,
        pytest.raises(InputError, match="'chr1' for one. The genome calls it '1'"),
    ):
        check_variants(table(("chr1", 0, "A", "C")), other)


def test_a_table_of_which_nothing_can_be_scored(genome):
    given = table(*[row for row, _ in ODD_ROWS.values()])
    with pytest.raises(InputError) as caught:
        check_variants(given, genome)
    said = str(caught.value)
    assert f"none of {len(given)} variants can be scored: " in said
    assert "4 x 'The reference allele has" not in said
    assert "3 x 'The reference allele has letters other than A, C, G and T: N, R.' and the like;" in said
    assert "1 x \"The alternate allele is '*': a deletion that begins before spans this place.\"" in said
    with pytest.raises(InputError, match="none of 5 variants can be scored: 5 x 'The reference allele has letters"):
        check_variants(snvs(5).assign(ref="N"), genome)
    given = snvs(10).iloc[:1].assign(ref="ACGTACGTAA")
    with pytest.raises(InputError, match="none of 1 variants .* 1 x 'The reference allele differs"):
        check_variants(given, genome, drop_mismatches=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda given: given.drop(columns=["ref", "alt"]), "no column 'ref', 'alt'"),
        (lambda given: given.iloc[:0], "has no rows"),
        (lambda given: given.assign(position=given["position"] + 0.5), "'position' .* is of type float64; integers"),
        (lambda given: given.assign(position=given["position"].astype(str)), "'position' .* is of type str|object"),
        (lambda given: given.assign(alt=["A", None, "C"]), "row 1 of the table of variants has no alt; '' is an empty"),
        (
            lambda given: given.assign(chromosome=[np.nan, "chr1", "chr1"]),
            "row 0 of the table of variants has no chrom",
        ),
    ],
)
def test_tables_that_are_no_variants(genome, change, said):
    for function in (check_variants, match_rates):
        with pytest.raises(InputError, match=said):
            function(change(snvs(3)), genome)


def test_reasons_are_whole_sentences():
    assert all(text[0].isupper() and text.endswith((".", "}")) for text in REASONS.values())
    reasons = Reasons(3)
    reasons.give(np.array([True, False, False]), "equal")
    reasons.give(np.array([True, True, False]), "symbolic", lambda row: {"alt": row})
    assert reasons.texts.tolist() == [REASONS["equal"], "The alternate allele is symbolic: 1.", ""]
    assert reasons.none.tolist() == [False, False, True]
