"""Variants of a parent from genotypes: codons by the stated rule, and every reference letter checked."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from Bio.Data.CodonTable import unambiguous_dna_by_id
from Bio.Seq import Seq
from hypothesis import given
from hypothesis import strategies as st

from embedstore.errors import InputError
from embedstore.sequences import AMINO_ACIDS, decode, encode
from embedstore.tasks.genotypes import read_gfp, read_numbering, read_parent, read_tem1
from embedstore.tasks.mutations import Mutation, change_nucleotides, change_residues, parse_genotype

FORWARD = unambiguous_dna_by_id[1].forward_table
SENSE = sorted(FORWARD)


@given(
    st.lists(st.sampled_from(SENSE), min_size=1, max_size=30), st.integers(0, 29), st.sampled_from(AMINO_ACIDS + "*")
)
def test_the_codon_of_a_variant_is_the_nearest_then_the_most_used_then_the_first(codons, place, letter):
    place %= len(codons)
    parent = encode("".join(codons))
    before = parent.copy()
    changed = decode(change_residues(parent, [Mutation(place, FORWARD[codons[place]], letter)]))
    np.testing.assert_array_equal(parent, before)
    found = changed[3 * place : 3 * place + 3]
    assert str(Seq(found).translate()) == letter
    assert changed[: 3 * place] + changed[3 * place + 3 :] == "".join(codons[:place] + codons[place + 1 :])
    every = ["".join(one) for one in itertools.product("ACGT", repeat=3)]
    ranked = [
        (sum(a != b for a, b in zip(codon, codons[place], strict=True)), -codons.count(codon), codon)
        for codon in every
        if str(Seq(codon).translate()) == letter
    ]
    assert found == min(ranked)[2]


def test_among_equals_the_codon_that_the_parent_uses_most_is_taken():
    """From ATG, TTC and TTT are two changes away, and TTC comes first in the order of the letters."""
    for others, wanted in (("TTTTTTTTC", "TTT"), ("TTTTTCTTC", "TTC"), ("TTTTTC", "TTC"), ("", "TTC")):
        assert decode(change_residues(encode("ATG" + others), [Mutation(0, "M", "F")])) == wanted + others


def test_genotypes_are_read_as_they_are_written():
    assert parse_genotype("") == []
    assert parse_genotype("SA108D:SN144D") == [Mutation(108, "A", "D"), Mutation(144, "N", "D")]
    assert parse_genotype("S65T") == [Mutation(65, "S", "T")]
    assert parse_genotype("SS65T:SA1*", first=1) == [Mutation(64, "S", "T"), Mutation(0, "A", "*")]
    for text, message in (
        ("A108", "genotype 'A108': 'A108' is no substitution; the reference letter, the position and the new letter"),
        ("SA1D::SA2D", "'' is no substitution"),
        ("A1D:A1C", "genotype 'A1D:A1C': a position is changed twice"),
    ):
        with pytest.raises(InputError, match=message):
            parse_genotype(text)


def test_every_reference_letter_is_checked():
    parent = encode("ATGGCTTGGTAA")  # MAW*
    for change, mutation, message in (
        (
            change_residues,
            Mutation(1, "M", "V"),
            r"residue 1 \(from 0\) of the parent is 'A', the genotype says 'M'. It is 'M' at 0: is",
        ),
        (
            change_residues,
            Mutation(3, "A", "V"),
            r"residue 3 \(from 0\) of the parent is '\*', the genotype says 'A'. It is 'A' at 1",
        ),
        (change_residues, Mutation(0, "C", "V"), r"the genotype says 'C'.$"),
        (change_residues, Mutation(4, "A", "V"), r"residue 4 \(from 0\) is outside the parent, which has 4"),
        (change_residues, Mutation(-1, "A", "V"), r"residue -1 \(from 0\) is outside"),
        (change_residues, Mutation(1, "A", "B"), "'B' has no codon in genetic code 1"),
        (
            change_nucleotides,
            Mutation(3, "A", "C"),
            r"nucleotide 3 \(from 0\) of the parent is 'G', the genotype says 'A'",
        ),
        (change_nucleotides, Mutation(3, "G", "N"), "nucleotide 3: 'N' is none of A, C, G, T"),
    ):
        with pytest.raises(InputError, match=message):
            change(parent, [mutation])
    changed = change_nucleotides(parent, [Mutation(3, "G", "A"), Mutation(11, "A", "C")])
    assert decode(changed) == "ATGACTTGGTAC"


# ---- avGFP ----------------------------------------------------------------------------------------


@pytest.fixture
def gfp(tmp_path):
    """A parent without ATG, and variants with 0 to 6 changed residues, one of them nonsense."""
    rng = np.random.default_rng(1)
    codons = ["AGC", *rng.choice(SENSE, 39), "TAA"]
    protein = str(Seq("".join(codons)).translate())
    (tmp_path / "parent.fa").write_text(">avGFP\n" + "".join(codons[:20]) + "\n" + "".join(codons[20:]) + "\n")
    genotypes = ["", "S" + protein[7] + "7*"]
    for number in range(60):
        places = sorted(rng.choice(40, 1 + number % 6, replace=False).tolist())
        new = [str(rng.choice([letter for letter in AMINO_ACIDS if letter != protein[place]])) for place in places]
        genotypes.append(
            ":".join(f"S{protein[place]}{place}{letter}" for place, letter in zip(places, new, strict=True))
        )
    frame = pd.DataFrame(
        {"aaMutations": genotypes, "uniqueBarcodes": 1, "medianBrightness": rng.normal(3, 1, 62).round(3)}
    )
    frame["std"] = ["0.1", ""] * 31
    frame.to_csv(tmp_path / "gfp.tsv", sep="\t", index=False)
    return tmp_path / "gfp.tsv", tmp_path / "parent.fa", frame, protein.removesuffix("*")


def test_avgfp_is_split_by_the_number_of_changed_residues(gfp):
    path, parent, frame, protein = gfp
    data = read_gfp(path, parent)
    table = data.table.set_index("id")
    assert data.record.name == "fluorescence"
    assert len(table) == 62
    for genotype, brightness in zip(frame["aaMutations"], frame["medianBrightness"], strict=True):
        row = table.loc[genotype or "parent"]
        wanted = list(protein)
        for token in genotype.split(":") if genotype else []:
            wanted[int(token[2:-1])] = token[-1]
        assert row["protein"] == "".join(wanted)
        assert row["label"] == brightness
        changed = genotype.count(":") + bool(genotype)
        assert row["differences"] == changed
        assert (row["split"] == "test") == (changed > 3)
    assert table["split"].value_counts().to_dict() == {"test": 30, "train": 25, "valid": 7}
    assert table["uniqueBarcodes"].tolist() == [1] * 62
    assert (table["flags"] == "stop_inside").sum() == 1
    assert not table["has_start"].any()
    assert read_gfp(path, parent).table.equals(data.table)
    assert not read_gfp(path, parent, seed=1).table["split"].equals(data.table["split"])


def test_genotypes_that_are_not_of_this_parent_are_named(gfp):
    path, parent, frame, protein = gfp
    bad = frame.copy()
    bad.loc[4, "aaMutations"] = f"S{'A' if protein[9] != 'A' else 'C'}9D"
    bad.loc[9, "aaMutations"] = "x"
    bad.loc[11, "medianBrightness"] = np.nan
    bad.to_csv(path, sep="\t", index=False)
    with pytest.raises(
        InputError, match=r"2 of 62 rows(?s:.*)gfp.tsv:6: not_of_this_parent: residue 9(?s:.*)gfp.tsv:11: "
    ):
        read_gfp(path, parent)
    data = read_gfp(path, parent, faults="reject")
    assert data.rejects[["row", "reason"]].to_numpy().tolist() == [
        *([4, "not_of_this_parent"], [9, "not_of_this_parent"], [11, "no_label"]),
    ]
    assert [where.rpartition(":")[2] for where in data.rejects["where"]] == ["6", "11", "13"]
    assert data.rejects["id"][1] == "x"
    assert (len(data.table), data.source["rejected"]) == (59, 3)


def test_genotypes_counted_from_1_are_found_out(gfp):
    path, parent, *_ = gfp
    with pytest.raises(InputError, match="not_of_this_parent"):
        read_gfp(path, parent, first=1)


def test_genotypes_of_nucleotides(gfp, tmp_path):
    _, parent, *_ = gfp
    cds = decode(read_parent(parent))
    frame = pd.DataFrame(
        {"nMutations": ["", f"S{cds[3]}3{'A' if cds[3] != 'A' else 'C'}"], "medianBrightness": [3.0, 2.0]}
    )
    frame.to_csv(tmp_path / "n.tsv", sep="\t", index=False)
    table = read_gfp(tmp_path / "n.tsv", parent, level="nucleotide").table.set_index("id")
    assert table.loc["parent", "cds"] == cds
    other = table.drop("parent").iloc[0]["cds"]
    assert [place for place in range(len(cds)) if cds[place] != other[place]] == [3]
    with pytest.raises(InputError, match="n.tsv:1: no column 'aaMutations'; aaMutations, medianBrightness are wanted"):
        read_gfp(tmp_path / "n.tsv", parent)
    with pytest.raises(InputError, match="level is 'codon'; it must be 'residue' or 'nucleotide'"):
        read_gfp(tmp_path / "n.tsv", parent, level="codon")


def test_a_parent_is_one_sequence_of_whole_codons(tmp_path):
    path = tmp_path / "p.fa"
    path.write_text(">a\nATG\n>b\nATG\n")
    with pytest.raises(InputError, match="p.fa: 2 sequences; a FASTA file with the parent alone is wanted"):
        read_parent(path)
    path.write_text(">a\nATGG\n")
    with pytest.raises(InputError, match="not_multiple_of_3"):
        read_parent(path)


# ---- TEM-1 ----------------------------------------------------------------------------------------


@pytest.fixture
def tem1(tmp_path):
    """Ten residues numbered from 3, with a gap after 7; every substitution, two of which were not measured."""
    rng = np.random.default_rng(2)
    codons = ["ATG", *rng.choice(SENSE, 9)]
    protein = str(Seq("".join(codons)).translate())
    numbers = [3, 4, 5, 6, 7, 9, 10, 11, 12, 13]
    (tmp_path / "tem1.fa").write_text(">TEM1\n" + "".join(codons) + "\n")
    pairs = "".join(f"{place + 1},{number}\n" for place, number in enumerate(numbers))
    (tmp_path / "ambler.csv").write_text("#SEQUENTIAL,AMBLER\n" + pairs)
    lines = ["Ambler Position,WT AA,Mutant AA,Sequencing Counts,,Fitness", ",,,0.25,0.50,"]
    fitness = {}
    for place, number in enumerate(numbers):
        for letter in AMINO_ACIDS:
            fitness[f"{protein[place]}{number}{letter}"] = round(float(rng.random()), 4)
            lines.append(f"{number},{protein[place]},{letter},1,2,{fitness[f'{protein[place]}{number}{letter}']}")
    (tmp_path / "fitness.csv").write_text("\n".join(lines) + "\n")
    return tmp_path, protein, numbers, fitness


def test_ambler_numbers_are_places_in_the_parent(tem1):
    path, protein, numbers, fitness = tem1
    data = read_tem1(path / "fitness.csv", path / "tem1.fa", path / "ambler.csv")
    table = data.table
    assert data.record.name == "beta_lactamase_unique"
    changed = table[table["protein"] != protein]
    assert len(changed) == 190
    for row in changed.itertuples():
        place = numbers.index(int(row.ambler_position))
        assert row.protein == protein[:place] + row.id[-1] + protein[place + 1 :]
        assert row.label == fitness[row.id]
    # The parent is there once, with the mean of its ten measurements.
    parent = table[table["protein"] == protein]
    same = [value for name, value in fitness.items() if name[0] == name[-1]]
    np.testing.assert_allclose(parent["label"], np.mean(same))
    assert table["split"].value_counts().to_dict() == {"train": 122, "valid": 31, "test": 38}


def test_rows_of_tem1_that_do_not_fit(tem1):
    path, protein, _, _ = tem1
    lines = (path / "fitness.csv").read_text().splitlines()
    other = "A" if protein[1] != "A" else "C"
    lines[2] = lines[2].replace("3,M,A", "8,M,A")  # the gap
    lines[25] = f"4,{other}," + lines[25].split(",", 2)[2]
    lines[30] = lines[30].rpartition(",")[0] + ","
    (path / "fitness.csv").write_text("\n".join(lines))
    files = (path / "fitness.csv", path / "tem1.fa", path / "ambler.csv")
    with pytest.raises(
        InputError, match=r"fitness.csv:3: .*number '8' is not in (?s:.*)fitness.csv:26: .*the parent is"
    ):
        read_tem1(*files)
    data = read_tem1(*files, faults="reject")
    assert data.rejects["reason"].tolist() == ["not_of_this_parent", "not_of_this_parent", "no_label"]
    assert data.rejects["row"].tolist() == [0, 23, 28]
    (path / "fitness.csv").write_text("\n".join([*lines, "3,M"]))
    with pytest.raises(InputError, match="fitness.csv:203: 2 cells, 6 are wanted as in the header"):
        read_tem1(*files)
    (path / "fitness.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="fitness.csv:1: no column 'Ambler Position'"):
        read_tem1(*files)


def test_a_table_of_numbers_that_is_none(tmp_path):
    path = tmp_path / "n.csv"
    for text in ("1,3\n2,3", "1,3\nx,4", "1,3\n2", "1,3\n0,2", "1,3\n2,"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"n.csv:2: .* and a number used once are wanted"):
            read_numbering(path)
