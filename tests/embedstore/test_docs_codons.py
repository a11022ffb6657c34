"""The page about codons: what it shows works as shown, and its tables are complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embedstore.cli import main
from embedstore.coding import CODONS, STRATEGIES, genetic_code
from embedstore.coding.reasons import REASONS
from embedstore.store import open_store
from embedstore.tasks import from_sequences

PAGE = (Path(__file__).parents[2] / "docs" / "codons.md").read_text()


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A task of the name the page uses, in the place it uses."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    sense = [codon for codon, family in zip(CODONS, genetic_code(1).family, strict=True) if family]
    texts = ["ATG" + "".join(rng.choice(sense, 40)) + "TAA" for _ in range(6)]
    columns = pd.DataFrame({"species": ["a", "b"] * 3, "transl_table": 1, "has_start": True})
    opened = open_store("store.zarr", mode="a")
    opened.add_task(from_sequences("melting_point", texts, splits=["train"] * 4 + ["test"] * 2, columns=columns))
    return opened


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_commands_of_the_page_run(store, capsys):
    lines = [line.split("#")[0] for line in blocks("")[0].splitlines()]
    assert len(lines) == 3
    for line in lines:
        program, *words = shlex.split(line)
        assert (program, main(words)) == ("embedstore", 0)
    assert "codonpair_preserving" in capsys.readouterr().out
    added = {f"melting_point.{name}.seed{seed}" for name in ("permuted", "uniform") for seed in range(5)}
    assert set(store.tasks()) == added | {"melting_point", "melting_point.window_permuted-8.seed0"}


def test_the_example_of_the_page_works(store):
    exec(blocks("python")[0], {})
    assert {f"melting_point.freq_species.seed{seed}" for seed in range(5)} <= set(store.tasks())


def test_the_tables_of_the_page_are_complete():
    strategies, reasons = (PAGE.split(f"| {head} |")[1].split("\n\n")[0] for head in ("Strategy", "Reason"))
    first = [re.findall(r"`(\w+)", line.split("|")[1]) for line in strategies.splitlines()[2:]]
    assert {name for (name,) in first} == set(STRATEGIES)
    named = [name for line in reasons.splitlines()[2:] for name in re.findall(r"`(\w+)`", line.split("|")[1])]
    assert named == [name for name in REASONS if name in named]
    from_checks = (Path(__file__).parents[2] / "embedstore" / "coding" / "codons.py").read_text()
    assert set(named) == {name for name in REASONS if f'"{name}"' in from_checks}
