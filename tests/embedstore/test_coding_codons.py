"""Reading, translating and checking coding sequences; translation against biopython."""

import numpy as np
import pytest
from Bio.Seq import Seq
from hypothesis import given
from hypothesis import strategies as st

from embedstore.coding import CODONS, check_cds, clean_cds, find_table, read_codons, translate
from embedstore.coding.reasons import REASONS
from embedstore.errors import InputError
from embedstore.sequences import encode

TABLES = (1, 2, 3, 5, 11)
IUPAC = "ACGTRYSWKMBDHVN"

# Fifty residues with most amino acids, and one of its coding sequences.
PROTEIN = "MKWVTFISLLFLFSSAYSRGVFRRDAHKSEVAHRFKDLGEENFKALVLIA"
CDS = (
    "ATGAAGTGGGTAACCTTTATTTCCCTTCTTTTTCTCTTTAGCTCGGCTTATTCCAGGGGTGTGTTTCGTCGAGATGCACACAAGAGTGAGGTTGCTCATCGG"
    "TTTAAAGATTTGGGAGAAGAAAATTTCAAAGCCTTGGTGTTGATTGCC"
)


def check(text, protein=None, **options):
    return check_cds(clean_cds(text), protein=protein, **options)


def test_the_example_is_what_it_should_be():
    assert str(Seq(CDS).translate()) == PROTEIN


# ---- reading and translating ---------------------------------------------------------------------


@given(st.lists(st.text("ACGTNRacgt", max_size=30), max_size=5))
def test_codons_are_read_in_frame(texts):
    texts = [text[: len(text) // 3 * 3].upper() for text in texts]
    codons = read_codons([encode(text) for text in texts])
    wanted = [[text[i : i + 3] for i in range(0, len(text), 3)] for text in texts]
    flat = [codon for one in wanted for codon in one]
    assert codons.index.tolist() == [CODONS.index(codon) if codon in CODONS else -1 for codon in flat]
    assert codons.first.tolist() == [sum(map(len, wanted[:i])) for i in range(len(wanted) + 1)]
    assert codons.letters.tobytes().decode() == "".join(flat)
    assert codons.index.dtype == np.int16


def test_sequences_that_are_not_whole_codons_are_refused():
    with pytest.raises(InputError, match=r"coding sequence 1: not_multiple_of_3: it has 4 nucleotides"):
        read_codons([encode("ACG"), encode("ACGT")])
    with pytest.raises(InputError, match="coding sequence 'P1': not_multiple_of_3"):
        read_codons([encode("ACGT")], ["P1"])


@given(st.lists(st.sampled_from(CODONS), max_size=40).map("".join), st.sampled_from(TABLES))
def test_translation_is_that_of_biopython(text, table):
    assert translate(encode(text), table) == str(Seq(text).translate(table))
    stripped = str(Seq(text).translate(table))
    assert translate(encode(text), table, stop=True) == stripped.removesuffix("*")


@given(st.text(IUPAC, min_size=3, max_size=3), st.sampled_from(TABLES))
def test_a_codon_whose_completions_are_synonymous_gives_their_amino_acid(codon, table):
    wanted = str(Seq(codon).translate(table))
    if wanted in "BZJ":  # biopython has letters for some pairs of amino acids
        wanted = "X"
    assert translate(encode(codon), table) == wanted


def test_start_codons_read_m_only_where_they_start():
    assert translate(encode("GTGGTGTAA"), 11) == "VV*"
    assert translate(encode("GTGGTGTAA"), 11, start=True) == "MV*"
    assert translate(encode("GTGGTGTAA"), 1, start=True) == "VV*"
    assert translate(encode("NTGGTG"), 1, start=True) == "XV"


def test_stops_inside_are_never_cut_off():
    assert translate(encode("ATGTAAGCCTAATAA"), stop=True) == "M*A*"
    assert translate(encode(""), start=True, stop=True) == ""


def test_letters_that_are_no_nucleotides_leave_the_amino_acid_open():
    assert translate(encode("GC?G??")) == "AX"


def test_cleaning():
    assert clean_cds("aug-gc.u \n\tNNN\r\n").tobytes() == b"ATGGCTNNN"
    codes = np.frombuffer(b"acgu", np.uint8)
    clean = clean_cds(codes)
    assert clean.tobytes() == b"ACGT"
    assert codes.tobytes() == b"acgu"
    clean[0] = ord("T")  # writeable, and its own
    with pytest.raises(InputError, match="letter 3 is not ASCII"):
        clean_cds("AGé")


# ---- checking ------------------------------------------------------------------------------------


def test_a_sound_sequence():
    found = check(CDS + "TAA", PROTEIN)
    assert found == (None, "", True, True, 51, 0, 0)
    assert check(CDS)[:4] == (None, "", True, False)
    assert check(CDS[3:], PROTEIN[1:])[:3] == (None, "", False)


GTG = "GTG" + CDS[3:]


@pytest.mark.parametrize(
    ("text", "table", "protein", "start", "reason", "has_start"),
    [
        (GTG, 11, PROTEIN, None, None, True),
        (GTG, 1, PROTEIN, None, "translation_differs", False),
        (GTG, 11, "V" + PROTEIN[1:], None, None, False),  # GTG stands for valine where the protein has it
        (GTG, 11, "V" + PROTEIN[1:], True, "translation_differs", True),
        (GTG, 11, PROTEIN, False, "translation_differs", False),
        (GTG, 11, None, None, None, True),
        (GTG, 11, None, False, None, False),
    ],
)
def test_how_the_first_codon_is_read(text, table, protein, start, reason, has_start):
    found = check_cds(clean_cds(text), table, protein=protein, start=start)
    assert (found.reason, found.has_start) == (reason, has_start)


def test_selenocysteine_and_pyrrolysine():
    text = "ATGTGAGCCTAGTAA"
    assert check(text, "MUAO").reason is None
    assert check(text, "MUAW")[:2] == ("internal_stop", "codon 4 of 5 is the stop codon TAG")
    assert check(text)[:2] == ("internal_stop", "codon 2 of 5 is the stop codon TGA")
    assert check(text, stops=True).reason is None
    assert check("ATGTAAGCC", "M*A", stops=True).reason is None


def test_ambiguous_codons_up_to_one_in_a_hundred():
    hundred = "GCC" * 99
    assert check(hundred + "NNN")[:1] + check(hundred + "NNN")[4:] == (None, 100, 1, 1)
    found = check(hundred[3:] + "NNN")
    assert found[:2] == ("ambiguous_codon", "1 of 99 codons leave the amino acid open")
    synonymous = check("GCN" * 3)
    assert (synonymous.reason, synonymous.n_ambiguous, synonymous.n_open) == (None, 3, 0)
    assert check(hundred + "NNN", "A" * 100).reason == "translation_differs"
    assert check(hundred + "NNN", "A" * 99 + "X").reason is None


def reverse_complement(text):
    return str(Seq(text).reverse_complement())


BAD = {
    "empty": ("", None, "no letters are left"),
    "only gaps": ("--- \n", None, "no letters are left"),
    "protein_instead_of_nucleotide": (PROTEIN, PROTEIN, "letter 6 of 50 is 'F'"),
    "not_nucleotides": ("<!DOCTYPE html><html>", None, "letter 1 of 20 is '<', which stands for no nucleotide"),
    "not_multiple_of_3": (CDS[:-1], None, "149 nucleotides are 49 codons and 2 more"),
    "cut, with its protein": (CDS[:-1], PROTEIN, "149 nucleotides are 49 codons and 2 more"),
    "one nucleotide too many": (CDS + "A", PROTEIN, "151 nucleotides are 50 codons and 1 more"),
    "internal_stop": (CDS[:30] + "TAG" + CDS[33:], PROTEIN, "codon 11 of 50 is the stop codon TAG"),
    "ambiguous_codon": (CDS[:30] + "NNN" + CDS[33:], PROTEIN, "1 of 50 codons leave the amino acid open"),
    "partial_5": (CDS[30:], PROTEIN, "the sequence encodes the last 40 residues, the protein 50"),
    "partial_3": (CDS[:120], PROTEIN, "the sequence encodes the first 40 residues, the protein 50"),
    "precursor": (CDS + "TAA", PROTEIN[18:], "encodes 50 residues, the protein 32, which begin at residue 19"),
    "wrong_frame": ("GG" + CDS, PROTEIN, "the protein is encoded from nucleotide 3 of 152, forward strand"),
    "frame 2": ("G" + CDS + "TA", PROTEIN, "the protein is encoded from nucleotide 2 of 153, forward strand"),
    "frame 2, no stop": ("CGCTGCAGCCGCGGCTGCAGCCGC", "AAAAAAA", "is encoded from nucleotide 2 of 24, forward strand"),
    "contig": ("ACGTAAC" * 5 + CDS + "TAAGG" * 8, PROTEIN, "from nucleotide 36 of 225, forward strand"),
    "contig, other strand": (reverse_complement("TACGTAA" * 5 + CDS + "TAA"), PROTEIN, "of 188, reverse strand"),
    "contig in frame 1": ("TAA" + CDS + "TAA" + "ACG" * 9, PROTEIN, "from nucleotide 4 of 183, forward strand"),
    "frameshift": (CDS[:60] + CDS[61:], PROTEIN, "are read in frame 1, the last 29 in frame 3"),
    "frameshift, one more": (
        CDS[:60] + "A" + CDS[60:],
        PROTEIN,
        "residues are read in frame 1, the last 30 in frame 2",
    ),
    "translation_differs": (
        CDS[:30] + "GAT" + CDS[33:],
        PROTEIN,
        "1 residues differ; the first difference is residue 11",
    ),
    "another protein": ("ATGGCC" * 9, PROTEIN, "the sequence encodes 18 residues, the protein 50; the first"),
}
"""Text, protein, and part of the detail; the key is the reason, or else words for it."""

WORDS = {
    "only gaps": "empty",
    "cut, with its protein": "not_multiple_of_3",
    "one nucleotide too many": "not_multiple_of_3",
    "frame 2": "wrong_frame",
    "frame 2, no stop": "wrong_frame",
    "contig, other strand": "contig",
    "contig in frame 1": "contig",
    "frameshift, one more": "frameshift",
    "another protein": "translation_differs",
}


@pytest.mark.parametrize("what", BAD)
def test_every_bad_input_has_its_reason(what):
    text, protein, detail = BAD[what]
    found = check(text, protein)
    assert found.reason == WORDS.get(what, what)
    assert detail in found.detail
    assert found.reason in REASONS


def test_short_proteins_are_not_looked_for_elsewhere():
    assert check("GGATGGCCTG", "MAW").reason == "not_multiple_of_3"


def test_reasons_are_sentences():
    assert all(text.endswith(".") and key.isidentifier() for key, text in REASONS.items())


@given(st.text(IUPAC + "QL*U<", max_size=60), st.text("ACDEFGHIKLMNPQRSTVWYUX", max_size=20), st.booleans())
def test_whatever_comes_a_check_answers(text, protein, stops):
    found = check(text, protein, stops=stops)
    assert found.reason is None or (found.reason in REASONS and found.detail)
    if found.reason is None:
        seen = translate(clean_cds(text), start=found.has_start, stop=True)
        assert len(seen) == len(protein)
        assert all(a == b or (a == "*" and b in "UO") for a, b in zip(seen, protein, strict=True))


# ---- genetic codes -------------------------------------------------------------------------------


def test_the_table_is_found_where_only_one_fits():
    assert find_table(clean_cds(GTG), PROTEIN) == 11
    assert find_table(clean_cds("ATGATAAGACTATGA"), "MMSLW") == 5
    assert find_table(clean_cds("ATGATACTATGA"), "MMTW") == 3
    assert (
        find_table(clean_cds("ATGATAAGACTATAA"), "MIRL") == 1
    )  # 11 gives it, too, and is the same code but for starts
    assert find_table(clean_cds("ATGATACTATGAAGA"), "MMLW") == 2  # AGA is a stop codon in vertebrates


def test_no_table_where_none_or_several_fit():
    assert find_table(clean_cds(CDS), PROTEIN[::-1]) is None
    assert find_table(clean_cds("ATGGCCAAA"), "MAK") is None  # 1, 2, 3 and 5 all do
    assert find_table(clean_cds("ATGGCCAAA"), "MAK", tables=(1, 11)) == 1
    assert find_table(clean_cds("ATGATACTATGATAA"), "MMLW") is None  # 2 and 5
    assert find_table(clean_cds(""), "") is None
    assert find_table(clean_cds("ATGG"), "M") is None
