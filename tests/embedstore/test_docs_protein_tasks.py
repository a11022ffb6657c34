"""The page about protein tasks: what it says is so, and what it shows works as shown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embedstore import tasks
from embedstore.cli import main
from embedstore.tasks.coding_commands import add_coding
from embedstore.tasks.coding_rows import NAMES_OF_COLUMNS
from embedstore.tasks.records import ALIASES
from probes.table_sheet import METRICS

PAGE = (Path(__file__).parents[2] / "docs" / "protein_tasks.md").read_text()
SENSE = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in ("TAA", "TAG", "TGA")]


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def genes(tmp_path, monkeypatch):
    """Forty proteins, half of them with two coding sequences."""
    rng = np.random.default_rng(1)
    cds = [
        begin + third for begin in ["ATG" + "".join(rng.choice(SENSE, 12)) + "GC" for _ in range(20)] for third in "AC"
    ]
    cds += ["ATG" + "".join(rng.choice(SENSE, 13)) for _ in range(20)]
    splits = np.resize(["train", "train", "train", "valid", "test"], 60)
    frame = pd.DataFrame({"sequence": cds, "melting_temperature": rng.normal(50, 8, 60), "stage": splits})
    monkeypatch.chdir(tmp_path)
    frame.to_csv("genes.csv", index=False)
    return frame


def test_the_examples_of_the_page_work(genes, capsys):
    first, genotypes, sets = blocks("python")
    found = {}
    exec(first, found)
    assert found["store"].tasks() == ["melting_point", "melting_point.protein"]
    exec(sets, found)
    assert found["sets"].manifest["counts"]["unique"] == {"train": 25, "valid": 7, "test": 8}
    assert "{'unique': {'train': 25" in capsys.readouterr().out
    letters = "".join(genes["sequence"][0])
    Path("avGFP_reference_sequence.fa").write_text(f">a\n{letters}\n")
    Path("amino_acid_genotypes_to_brightness.tsv").write_text(
        "aaMutations\tmedianBrightness\n\t3.7\nSM0A\t1.3\nSM0C\t1.2\n"
    )
    Path("TEM1_cds.fasta").write_text(f">a\n{letters}\n")
    Path("sequential_to_Ambler.csv").write_text("#SEQUENTIAL,AMBLER\n1,3\n")
    fitness = [f"3,M,{letter},0.{place}" for place, letter in enumerate("ACDEFGHIKLNPQRSTVWY", 1)] + ["291,*,A,1"]
    Path("fitness.csv").write_text("\n".join(["Ambler Position,WT AA,Mutant AA,Fitness", *fitness]))
    exec(genotypes, found)
    assert len(found["gfp"].table) == 3
    assert (len(found["tem1"].table), len(found["tem1"].rejects)) == (19, 1)


@pytest.mark.usefixtures("genes")
def test_the_command_of_the_page_works(capsys):
    command = blocks("")[0].splitlines()[0].replace("melting_point/ ", "genes.csv ")
    assert main(shlex.split(command)[1:]) == 0
    assert "melting_point.protein" in capsys.readouterr().out


def test_the_page_names_every_task_column_and_option():
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")
    ]
    named = {row[0].split("`")[1]: row for row in rows if len(row) == 5}
    published = {name: tasks.publication(name) for name in tasks.names()}
    published = {name: one for name, one in published.items() if one.labels.source == "coding"}
    assert set(named) == set(published)
    for name, row in named.items():
        facts = published[name]
        assert row[2] == METRICS.get(facts.record.metric, facts.record.metric)
        assert [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d", row[3])] == [
            *facts.counts["paper"].values()
        ]
        assert int(row[4].replace(",", "")) == facts.coding.nucleotides
    assert {row[0].split("`")[3]: name for name, row in named.items() if row[0].count("`") == 4} == ALIASES
    columns = {row[0].strip("`"): re.findall(r"`(\w+)`", row[1]) for row in rows if len(row) == 3}
    assert columns == {name: [one for one in names if one != name] for name, names in NAMES_OF_COLUMNS.items()}


def test_options_that_the_page_names_are_those_of_the_command():
    import argparse

    parser = argparse.ArgumentParser()
    add_coding(parser.add_subparsers())
    known = parser._subparsers._group_actions[0].choices["coding"]._option_string_actions
    named = set(re.findall(r"(--[a-z][a-z-]+)", PAGE))
    assert named - {"--model", "--test"} <= set(known)  # these two are of embed and of probe
    assert {"--faults", "--rejects", "--stops", "--transl-table", "--val", "--label-order"} <= named
