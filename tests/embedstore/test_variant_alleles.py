"""Changes of a chromosome, against what they make of its text; normal forms against brute force and the literature."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore.variants.alleles import Change, change_kind, left_align, trim


def normal(chromosome, position, ref, alt):
    """The normal form; what is read of the chromosome must lie left of the change."""
    change = trim(ref, alt, position)

    def letters(start, end):
        assert 0 <= start < end <= change.start
        return chromosome[start:end]

    return left_align(change, letters)


def put(chromosome, start, removed, added):
    """The haplotype."""
    assert start >= 0
    assert chromosome[start : start + len(removed)] == removed
    return chromosome[:start] + added + chromosome[start + len(removed) :]


@st.composite
def records(draw, letters="ACGT"):
    chromosome = draw(st.text(letters, min_size=1, max_size=60))
    start = draw(st.integers(0, len(chromosome) - 1))
    end = draw(st.integers(start + 1, min(len(chromosome), start + 12)))
    alt = draw(st.text(letters, min_size=1, max_size=12))
    return chromosome, start, chromosome[start:end], alt


@settings(max_examples=400)
@given(st.one_of(records(), records("AC"), records("A")))
def test_a_record_and_its_change_make_the_same_haplotype(record):
    chromosome, position, ref, alt = record
    change = normal(chromosome, position, ref, alt)
    assert put(chromosome, *change) == put(chromosome, position, ref, alt)
    if ref != alt:
        assert change.removed != change.added
        assert change.removed[:1] != change.added[:1]
        assert change.removed[-1:] != change.added[-1:]
    else:
        assert (change.removed, change.added, change_kind(change)) == ("", "", "")


@settings(max_examples=400)
@given(st.text("AC", min_size=1, max_size=40), st.data())
def test_all_ways_of_writing_one_indel_end_in_its_leftmost_place(chromosome, data):
    if data.draw(st.booleans()):
        start = data.draw(st.integers(0, len(chromosome) - 1))
        removed, added = chromosome[start : data.draw(st.integers(start + 1, len(chromosome)))], ""
    else:
        start = data.draw(st.integers(0, len(chromosome)))
        removed, added = "", data.draw(st.text("AC", min_size=1, max_size=6))
    haplotype = put(chromosome, start, removed, added)
    size, places = len(removed), range(len(chromosome) - len(removed) + 1)
    grown = len(haplotype) - len(chromosome)
    ways = [
        (place, chromosome[place : place + size], haplotype[place : place + max(grown, 0)])
        for place in places
        if haplotype[:place] == chromosome[:place] and haplotype[place + max(grown, 0) :] == chromosome[place + size :]
    ]
    assert (start, removed, added) in ways
    for place, out, into in ways:
        left = data.draw(st.integers(0, place))
        right = data.draw(st.integers(place + size, len(chromosome)))
        before, after = chromosome[left:place], chromosome[place + size : right]
        assert normal(chromosome, left, before + out + after, before + into + after) == min(ways)


# The microsatellite of figure 1 of Tan, Abecasis & Kang 2015: five ways of writing one deletion. The normal one of the
# figure is POS 3, GCA>G: after its padding, CA is taken out at 0-based 3.
SATELLITE = "GGGCACACACAGGG"


@pytest.mark.parametrize(
    ("pos", "ref", "alt"), [(8, "CA", ""), (6, "CAC", "C"), (3, "GCACA", "GCA"), (2, "GGCA", "GG"), (3, "GCA", "G")]
)
def test_the_figure_of_tan(pos, ref, alt):
    assert normal(SATELLITE, pos - 1, ref, alt) == (3, "CA", "")


@pytest.mark.parametrize(
    ("chromosome", "record", "wanted"),
    [
        # As `bcftools norm` has it, its padding taken off: POS 1 REF TAAAAA ALT TAAAA becomes POS 1 TA>T.
        ("TAAAAAG", (0, "TAAAAA", "TAAAA"), (1, "A", "")),
        ("TAAAAAG", (5, "A", "AAA"), (1, "", "AA")),
        # A tandem duplication, written after its second copy, turns around while it moves.
        ("GATCATCATCG", (8, "T", "TCAT"), (1, "", "ATC")),
        # At the start of a chromosome VCF pads on the right.
        ("CACACAG", (4, "CA", ""), (0, "CA", "")),
        ("AAAA", (3, "A", "AA"), (0, "", "A")),
        ("CATG", (0, "CA", "A"), (0, "C", "")),
        # What takes some letters out and puts others in has one place only.
        ("GAAAT", (1, "AAA", "AG"), (2, "AA", "G")),
        # Padding of a record of several alternates: the single change is plain.
        ("TACG", (1, "AC", "GC"), (1, "A", "G")),
        ("TACG", (0, "TACG", "TATG"), (2, "C", "T")),
        ("TACG", (0, "TACG", "TGTG"), (1, "AC", "GT")),
    ],
)
def test_normal_forms_by_hand(chromosome, record, wanted):
    assert normal(chromosome, *record) == wanted


@pytest.mark.parametrize("length", [15, 16, 17, 48, 49, 1000, 200_000])
def test_a_long_repeat_is_crossed_to_its_end(length):
    """It is read in pieces that double."""
    chromosome = "C" + "GA" * length
    assert normal(chromosome, len(chromosome) - 1, "", "AGAG") == (1, "", "GAGA")
    assert normal(chromosome, len(chromosome) - 2, "GA", "") == (1, "GA", "")
    assert normal(chromosome[1:], 2 * length, "", "GA") == (0, "", "GA")


def test_unknown_letters_stop_the_move():
    assert normal("AANAAA", 5, "A", "") == (3, "A", "")
    assert normal("AA?AAA", 5, "A", "") == (3, "A", "")


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (("A", "C"), "snv"),
        (("AC", "GT"), "mnv"),
        (("", "A"), "insertion"),
        (("ACG", ""), "deletion"),
        (("A", "CG"), "delins"),
        (("AT", "C"), "delins"),
        (("", ""), ""),
    ],
)
def test_kinds(change, kind):
    assert change_kind(Change(7, *change)) == kind
