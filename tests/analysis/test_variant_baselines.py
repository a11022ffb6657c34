"""Baselines: letters counted in whole chromosomes before and after a change, both strands by Biopython."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from Bio.Seq import Seq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import random_sequences

from analysis import variant_baselines
from analysis.variant_baselines import BASELINES, baseline_scores, trinucleotide_rates
from analysis.variant_tables import score_table
from embedstore.annotation import read_annotation
from embedstore.errors import InputError
from embedstore.genome import Genome
from embedstore.variants import check_variants

CONTIGS = dict(zip(("chr1", "chr2"), random_sequences([700, 300], seed=8), strict=True))
# Lower case, an N, the end of a chromosome in a CpG, and one too short for a trinucleotide.
CONTIGS |= {"odd": "CGNCGacgtNNTTACG", "two": "CG"}
LETTERS = ("gc_change", "cpg_loss", "transition")


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in CONTIGS.items()))
    with Genome(path) as opened:
        yield opened


def changes(*rows):
    """Variants (chromosome, position, ref, alt)."""
    return pd.DataFrame(rows, columns=["chromosome", "position", "ref", "alt"])


@st.composite
def any_change(draw):
    name = draw(st.sampled_from(["chr1", "chr2", "odd", "two"]))
    text = CONTIGS[name].upper()
    start = draw(st.integers(0, len(text) - 1))
    ref = text[start : start + draw(st.integers(1, 4))]
    alt = draw(st.text("ACGT", min_size=1, max_size=4).filter(lambda alt: alt != ref))
    return name, start, ref, alt


def every_snv(name):
    text = CONTIGS[name].upper()
    known = [(i, ref) for i, ref in enumerate(text) if ref != "N"]
    return changes(*((name, i, ref, alt) for i, ref in known for alt in "ACGT" if alt != ref))


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(any_change().filter(lambda one: "N" not in one[2]), min_size=1, max_size=5))
def test_counts_are_those_of_whole_chromosomes_before_and_after(genome, rows):
    table = check_variants(changes(*rows), genome)
    found = baseline_scores(table, genome)
    assert list(found) == list(LETTERS)
    for (name, start, ref, alt), row in zip(rows, found.itertuples(), strict=True):
        before = CONTIGS[name].upper()
        after = before[:start] + alt + before[start + len(ref) :]
        assert row.cpg_loss == before.count("CG") - after.count("CG")
        gc = [text.count("G") + text.count("C") for text in (before, after)]
        assert row.gc_change == abs(gc[1] - gc[0])
        other = str(Seq(before).reverse_complement()).count("CG") - str(Seq(after).reverse_complement()).count("CG")
        assert row.cpg_loss == other


def test_transitions_are_those_of_single_letters(genome):
    table = pd.concat([every_snv("two"), every_snv("odd")], ignore_index=True)
    found = baseline_scores(table, genome)["transition"]
    pairs = [{"A", "G"}, {"C", "T"}]
    assert found.tolist() == [float({ref, alt} in pairs) for ref, alt in zip(table["ref"], table["alt"], strict=True)]
    assert 0 < found.sum() < len(found)
    others = changes(("odd", 0, "C", "CA"), ("odd", 0, "CG", "C"), ("odd", 0, "CG", "AT"), ("odd", 0, "CG", "AG"))
    transition = baseline_scores(others, genome)["transition"]
    # The last one, trimmed, is of a single letter.
    assert transition.isna().tolist() == [True, True, True, False]


def test_rows_keep_their_index_and_those_that_are_not_known_stay_empty(genome):
    table = changes(("odd", 0, "C", "T"), ("odd", 2, "N", "A"), ("odd", 3, "C", "<DEL>"), ("odd", 4, "G", "A"))
    table.index = [7, 3, 3, 9]
    found = baseline_scores(table, genome)
    assert found.index.tolist() == [7, 3, 3, 9]
    assert found.isna().all(axis=1).tolist() == [False, True, True, False]
    checked = check_variants(table, genome)
    assert checked["reason"].tolist()[::3] == ["", ""]
    pd.testing.assert_frame_equal(baseline_scores(checked, genome), found.reset_index(drop=True))
    # What could not be scored for other reasons has baselines.
    said = checked.assign(reason="the window does not fit")
    pd.testing.assert_frame_equal(baseline_scores(said, genome), found.reset_index(drop=True))


def test_letters_that_the_genome_refuses_are_unknown_neighbours(tmp_path, genome):
    (tmp_path / "iupac.fa").write_text(">c\nCGTARCGTTCG\n")
    with Genome(tmp_path / "iupac.fa") as odd:
        table = changes(("c", 0, "C", "T"), ("c", 3, "A", "G"), ("c", 5, "C", "G"))
        found = baseline_scores(table, odd, rates=rates(genome))
        assert found["cpg_loss"].tolist() == [1, 0, 1]
        assert found["trinucleotide_rate"].isna().all()
        assert trinucleotide_rates(changes(("c", 1, "G", "A"), ("c", 3, "A", "G")), odd)["changes"].sum() == 1


# ---- trinucleotides ------------------------------------------------------------------------------


def folded(before, ref, alt, after):
    if ref in "AG":
        before, ref, alt, after = (str(Seq(letter).complement()) for letter in (after, ref, alt, before))
    return f"{before}[{ref}>{alt}]{after}"


def names_of(table):
    for name, at, ref, alt in table[["chromosome", "position", "ref", "alt"]].itertuples(index=False):
        text = CONTIGS[name].upper()
        context = text[at - 1 : at] + ref + text[at + 1 : at + 2]
        yield folded(context[0], ref, alt, context[2]) if len(context) == 3 and "N" not in context else ""


def background():
    return every_snv("chr1").sample(400, random_state=1)


def rates(genome):
    return trinucleotide_rates(background(), genome)


def test_rates_are_changes_by_occurrences_on_both_strands(genome, monkeypatch):
    table = background()
    found = trinucleotide_rates(pd.concat([table, table.iloc[:50]]), genome)
    assert len(found) == found["change"].nunique() == 96
    names = pd.Series(list(names_of(table))).value_counts()
    both = [text.upper() for text in CONTIGS.values()]
    both += [str(Seq(text).reverse_complement()) for text in both]
    for row in found.itertuples():
        context = row.change[0] + row.change[2] + row.change[6]
        assert row.changes == names.get(row.change, 0)
        assert row.occurrences == sum(text.startswith(context, i) for text in both for i in range(len(text)))
        assert row.rate == pytest.approx(row.changes / row.occurrences)
    assert found["changes"].sum() == (names.index != "").dot(names)
    monkeypatch.setattr(variant_baselines, "_AT_ONCE", 7)  # stretches end within a trinucleotide
    pd.testing.assert_frame_equal(trinucleotide_rates(table, genome), found)
    pd.testing.assert_frame_equal(
        baseline_scores(table, genome, rates=found), baseline_scores(table.copy(), genome, rates=found)
    )


def test_a_variant_has_the_rate_of_its_change(genome, tmp_path):
    known = rates(genome).assign(rate=np.random.default_rng(2).permutation(96) / 96)
    table = pd.concat([every_snv(name) for name in ("chr2", "odd", "two")], ignore_index=True)
    found = baseline_scores(table, genome, rates=known)
    assert list(found) == [*LETTERS, "trinucleotide_rate"]
    by_name = known.set_index("change")["rate"]
    wanted = [by_name.get(name, np.nan) for name in names_of(table)]
    np.testing.assert_array_equal(found["trinucleotide_rate"], wanted)
    assert 0 < np.isnan(wanted).sum() < len(wanted)
    known.sample(frac=1, random_state=0).to_csv(tmp_path / "rates.csv", index=False)
    known.to_csv(tmp_path / "rates.tsv", index=False, sep="\t")
    for name in ("rates.csv", "rates.tsv"):
        np.testing.assert_allclose(
            baseline_scores(table, genome, rates=tmp_path / name), found, equal_nan=True, rtol=1e-12
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda r: r.drop(columns="rate"),
            "has the columns change, changes, occurrences; change .* and rate are wanted",
        ),
        (lambda r: r.iloc[1:], r"each of the 96 changes is wanted once.*1 are missing, the first A\[C>A\]A"),
        (lambda r: pd.concat([r, r.iloc[:1]]), "some are there twice"),
    ],
)
def test_rates_that_are_not_those_of_the_96_changes(genome, change, said):
    with pytest.raises(InputError, match=said):
        baseline_scores(every_snv("two"), genome, rates=change(rates(genome)))


def test_a_file_of_rates_that_cannot_be_read(genome, tmp_path):
    with pytest.raises(InputError, match=r"none.tsv: cannot be read as a table of rates: .*No such file"):
        baseline_scores(every_snv("two"), genome, rates=tmp_path / "none.tsv")


def test_rates_need_single_letters(genome):
    with pytest.raises(InputError, match="none of 1 variants is a change of one letter with known neighbours"):
        trinucleotide_rates(changes(("chr1", 10, CONTIGS["chr1"][10], "ACGTACGT")), genome)


# ---- places --------------------------------------------------------------------------------------

GFF = """##gff-version 3
chr1\tx\tgene\t101\t400\t.\t+\t.\tID=g1
chr1\tx\tmRNA\t101\t400\t.\t+\t.\tID=t1;Parent=g1
chr1\tx\texon\t101\t200\t.\t+\t.\tParent=t1
chr1\tx\texon\t301\t400\t.\t+\t.\tParent=t1
"""


def test_distances_are_to_the_nearest_site_and_nearer_is_more(genome, tmp_path):
    (tmp_path / "genes.gff3").write_text(GFF)
    annotation = read_annotation(tmp_path / "genes.gff3")
    table = check_variants(pd.concat([every_snv("chr1"), every_snv("chr2")], ignore_index=True), genome)
    found = baseline_scores(table, genome, annotation=annotation)
    assert list(found) == [*LETTERS, "distance_to_splice_site", "distance_to_tss"]
    # The intron is 200 to 299, transcription starts at 100, counted from 0.
    one = table["chromosome"] == "chr1"
    at = table.loc[one, "position"].to_numpy()
    splice = np.minimum(abs(at - 200), abs(at - 299))
    assert found.loc[one, "distance_to_splice_site"].tolist() == splice.tolist()
    assert found.loc[one, "distance_to_tss"].tolist() == abs(at - 100).tolist()
    assert found.loc[~one, ["distance_to_splice_site", "distance_to_tss"]].isna().all(axis=None)
    near = np.isin(table["position"], [199, 200, 201, 298, 299, 300])
    labelled = table.join(found).assign(label=np.where(one, near, np.nan))
    row = score_table(labelled, "distance_to_splice_site", draws=10).iloc[0]
    assert row["auroc"] == 1
    assert row["not_scored"] == (~one).sum()


def test_every_baseline_is_described():
    assert set(BASELINES) == {*LETTERS, "trinucleotide_rate", "distance_to_splice_site", "distance_to_tss"}
    falling = [name for name, one in BASELINES.items() if one.direction < 0]
    assert falling == ["distance_to_splice_site", "distance_to_tss"]
