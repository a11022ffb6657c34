"""The page about representations: its commands and code run as shown, and its table says what there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from probe_tasks import planted_labels, planted_record
from toys import ToyModel, random_sequences

import embedstore
from embedstore import tasks
from embedstore.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "representations.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = embedstore.open_store("store.zarr", mode="a")
    sequences = random_sequences(np.arange(80, 140), seed=1)
    record = planted_record("sequence", "class")
    for name in ("promoters", "other_strand"):
        made.add_task(
            tasks.from_sequences(
                name,
                sequences,
                splits=["train"] * 60,
                labels=planted_labels("sequence", "class", sequences),
                record=record,
                columns=pd.DataFrame({"species": ["yeast", "fly", "human"] * 20}),
            )
        )
        model = ToyModel(width=12)
        model.name = "lm"
        embedstore.embed(made, name, model, progress=False)
        sequences = [text[::-1] for text in sequences]
    yield made
    plt.close("all")


def test_the_commands_and_the_code_of_the_page(store, capsys, monkeypatch) -> None:
    commands = blocks("")[0].splitlines()
    assert [shlex.split(command)[1] for command in commands] == ["represent"] * 2
    for number, command in enumerate(commands):
        if number:  # drawing takes longer than all the rest
            monkeypatch.setattr(Figure, "savefig", lambda _, path, **options: path.touch())
        assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    for column in ("species", "gc"):
        assert Path(f"space/promoters.lm.map.{column}.png").stat().st_size > 5000
    for name in ("promoters.decodability", "promoters.similarity", "promoters.kmer3.neighbours"):
        table = pd.read_csv(f"space/{name}.csv")
        assert f"\n{name}\n" in shown
        assert len(table) >= 2
    assert set(pd.read_csv("windows/promoters.decodability.csv")["per"]) == {"window"}
    found: dict[str, object] = {}
    for number, code in enumerate(blocks("python")):
        exec(compile(code, f"representations.md, block {number}", "exec"), found)
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(rows) == sorted(found["found"].table["target"])
    assert found["across"]["b"].tolist() == ["promoters/lm", "other_strand/lm", "other_strand/lm"]


def test_proteins_have_maps_and_neighbours_and_no_gc(tmp_path, capsys) -> None:
    made = embedstore.open_store(tmp_path / "s.zarr", mode="a")
    rng = np.random.default_rng(0)
    proteins = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), n)) for n in range(20, 50)]
    made.add_task(tasks.from_sequences("p", proteins, splits=["a"] * 30, alphabet="protein"))
    model = ToyModel(width=6)
    model.alphabet = "protein"
    embedstore.embed(made, "p", model, progress=False)
    out = tmp_path / "out"
    assert main(["represent", "p", "--model", "toy", "--store", str(tmp_path / "s.zarr"), "--out", str(out)]) == 0
    assert {path.name for path in out.glob("*.png")} == {"p.toy.map.length.png", "p.toy.neighbours.png"}
    assert "length" in capsys.readouterr().out
    plt.close("all")


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("promoters", ["--seed", "-1"], "seed is -1; a whole number from 0"),
        ("promoters", ["--by", "specie"], "--by specie: task 'promoters' has no such column. Did you mean 'species'?"),
        ("promoters", ["--group", "genus"], "--group genus: task 'promoters' has no such column. Known: chromosome"),
        ("promoters", ["--window", "0"], "--window is 0; 2 to 139 nucleotides, the longest sample, are wanted"),
        ("promoters", ["--window", "140"], "--window is 140; 2 to 139 nucleotides"),
        ("promoters", ["--model", "lm", "ml"], "not embedded with model 'ml'"),
        ("promoters", ["--out", "store.zarr/zarr.json"], "zarr.json is a file, and a folder is wanted there"),
        ("proteins", ["--window", "5"], "task 'proteins' is of proteins, which have no GC content: leave out --window"),
    ],
)
def test_nothing_is_written_where_an_argument_is_wrong(store, capsys, task, options, message) -> None:
    store.add_task(tasks.from_sequences("proteins", ["MKV", "MAA"], splits=["a"] * 2, alphabet="protein"))
    model = "lm" if task == "promoters" else "onehot"
    command = ["represent", task, "--model", model, "--store", "store.zarr", "--out", "out", *options]
    assert main(command) == 1
    assert message in capsys.readouterr().err
    assert not Path("out").exists()
