"""Which splits train, validate and test, and that no region does two of these."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import random_sequences

import embedstore
from embedstore import tasks
from embedstore.errors import InputError, NotInStoreError
from embedstore.simulate import write_fasta
from probes.experiment import run_probe
from probes.roles import check_regions, split_roles

RECORD = tasks.TaskRecord(name="t", level="sequence", type="multilabel", names=("x",), metric="auroc")
ROLES = {"train": ["train"], "valid": ["valid"], "test": ["test"]}


@given(st.integers(3, 30), st.data())
def test_every_part_is_used_once_in_every_fold(parts: int, data) -> None:
    """The part after the one for testing is for validation, after the last the first."""
    names = [f"part{number}" for number in range(1, parts + 1)]
    tested, validated = [], []
    for fold in range(1, parts + 1):
        roles = split_roles(data.draw(st.permutations(names)), fold)
        assert sorted(itertools.chain(*roles.values())) == sorted(names)
        assert roles["test"] == [f"part{fold}"]
        assert roles["valid"] == [f"part{fold % parts + 1}"]
        assert roles["train"] == [name for name in names if name not in roles["test"] + roles["valid"]]
        tested += roles["test"]
        validated += roles["valid"]
    assert sorted(tested) == sorted(validated) == sorted(names)


def test_parts_are_counted_by_place_where_numbers_are_missing() -> None:
    assert split_roles(["part2", "part10", "part30"], 3) == {
        "train": ["part10"],
        "valid": ["part2"],
        "test": ["part30"],
    }
    with pytest.raises(InputError, match="fold 1 is not possible: .*at least 3; the task's splits are part1, part2"):
        split_roles(["part1", "part2"], 1)


def test_several_splits_of_a_role() -> None:
    found = split_roles(["a", "b", "c"], splits={"train": ("a", "b"), "test": "c"})
    assert found == {"train": ["a", "b"], "test": ["c"]}
    with pytest.raises(InputError, match="split 'a' is used twice"):
        split_roles(["a", "b"], splits={"train": ["a", "a"], "test": "b"})


def regions_store(tmp_path, rows) -> embedstore.Store:
    contigs = dict(zip(("chr1", "chr2"), random_sequences([500, 500], 1), strict=True))
    genome = write_fasta(
        tmp_path / "genome.fa", {name: np.frombuffer(text.encode(), np.uint8) for name, text in contigs.items()}
    )
    bed = tmp_path / "t.bed"
    lines = ["chromosome\tstart\tend\tstrand\tid\tlabel\tsplit"]
    lines += [
        "\t".join(map(str, (*row[:4], f"s{number}", "0" * (number % 2), row[4]))) for number, row in enumerate(rows)
    ]
    bed.write_text("\n".join(lines) + "\n")
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(tasks.from_bed(bed, genome, name="t", record=RECORD, empty_labels="zero"))
    return store


APART = [("chr1", 10, 40, "+", "train"), ("chr1", 41, 71, "+", "valid"), ("chr2", 10, 40, "+", "test")]


def test_regions_that_are_apart(tmp_path) -> None:
    twice = [*APART, ("chr1", 10, 40, "+", "train"), ("chr1", 10, 41, "+", "test"), ("chr1", 10, 40, "+", "unused")]
    check_regions(regions_store(tmp_path, twice), "t", ROLES)


@pytest.mark.parametrize("strand", ["+", "-"])
def test_a_region_of_two_roles_is_refused_on_either_strand(tmp_path, strand: str) -> None:
    store = regions_store(tmp_path, [*APART, ("chr1", 10, 40, strand, "test")])
    message = r"task 't': 2 samples are in more than one of training, validation and test; the first are .*\(train\) "
    with pytest.raises(InputError, match=message + r"and .*\(test\), both chr1:10-40. Give each region one split"):
        check_regions(store, "t", ROLES)
    with pytest.raises(InputError, match="2 samples are in more than one of"):
        run_probe(store, "t", "gc", probe="majority")
    check_regions(store, "t", {"train": ["train", "test"], "valid": ["valid"]})


def test_samples_that_are_of_no_genome_are_not_compared() -> None:
    store = embedstore.open_store("memory://", mode="a")
    labels = [[0], [1], [0]]
    splits = ["train", "valid", "test"]
    store.add_task(tasks.from_sequences("t", ["ACGT"] * 3, splits=splits, labels=labels, record=RECORD))
    check_regions(store, "t", ROLES)
    with pytest.raises(NotInStoreError, match="no split 'tests', only test, train, valid. Did you mean 'test'"):
        run_probe(store, "t", "gc", probe="majority", splits={"train": "train", "test": "tests"})
