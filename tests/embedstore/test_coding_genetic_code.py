"""Genetic codes against biopython's own translation."""

import pickle

import numpy as np
import pytest
from Bio.Data.CodonTable import unambiguous_dna_by_id
from Bio.Seq import Seq

from embedstore.coding import CODONS, genetic_code
from embedstore.errors import InputError

BOTH = (27, 28, 31)
TABLES = sorted(set(unambiguous_dna_by_id) - set(BOTH))


def test_codons_are_numbered_in_alphabetical_order():
    assert list(CODONS) == sorted(CODONS)
    assert len(set(CODONS)) == 64
    assert CODONS[16 * 2 + 4 * 0 + 3] == "GAT"


@pytest.mark.parametrize("table", TABLES)
def test_tables_translate_as_biopython_does(table):
    code = genetic_code(table)
    assert code.amino_acid.tobytes().decode() == str(Seq("".join(CODONS)).translate(table))
    assert {CODONS[i] for i in np.flatnonzero(code.start)} == set(unambiguous_dna_by_id[table].start_codons)
    assert code.table == table
    assert code.name in unambiguous_dna_by_id[table].names


@pytest.mark.parametrize("table", TABLES)
def test_families_are_the_synonymous_codons(table):
    code = genetic_code(table)
    for index, codon in enumerate(CODONS):
        amino_acid = str(Seq(codon).translate(table))
        synonyms = [other for other in CODONS if str(Seq(other).translate(table)) == amino_acid]
        assert [CODONS[i] for i in code.synonyms(amino_acid)] == synonyms
        assert code.letters[code.family[index]] == amino_acid
        assert code.size[index] == len(synonyms)
    assert code.letters[0] == "*"


def test_what_is_special_in_the_tables_of_mitochondria():
    vertebrate, yeast = genetic_code(2), genetic_code(3)
    assert [CODONS[i] for i in vertebrate.synonyms("M")] == ["ATA", "ATG"]
    assert {"AGA", "AGG"} <= {CODONS[i] for i in vertebrate.synonyms("*")}
    assert len(yeast.synonyms("T")) == 8
    assert genetic_code(1).synonyms("J").size == 0


def test_one_object_for_a_table_that_nobody_can_change():
    code = genetic_code(11)
    assert genetic_code(11) is code
    assert pickle.loads(pickle.dumps(code)) is code
    for array in (code.amino_acid, code.start, code.family, code.size):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize("table", BOTH)
def test_codons_that_are_both_stop_and_amino_acid_are_refused(table):
    with pytest.raises(InputError, match=f"In genetic code {table} .*T[AG][AG].* is a stop codon or an amino acid"):
        genetic_code(table)


def test_an_unknown_table_is_refused():
    with pytest.raises(InputError, match=r"There is no genetic code 7\. Known translation tables of the NCBI: 1, 2, 3"):
        genetic_code(7)
