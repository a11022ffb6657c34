"""The page about probes: what it shows works as shown, and what it says there is, there is."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from probe_tasks import SPLITS, planted_labels
from toys import ToyModel, random_sequences

import embedstore
from embedstore import tasks
from embedstore.cli import main
from embedstore.tasks import TaskRecord
from probes.baselines import ResNet
from probes.kinds import PROBES
from probes.networks import NETWORKS
from probes.outcome import STATE
from probes.recipes import FIXES, RECIPES

PAGE = (Path(__file__).parents[2] / "docs" / "probes.md").read_text()
PROBE = {"hidden": 4, "learning_rate": 1e-2, "batch_size": 8, "epochs": 2}
SMALL = {"--set encoder_kernel=9": "--set encoder_kernel=9 --set encoder_layers=2 --set encoder_hidden=8"}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def rows_of(after: str) -> list[list[str]]:
    """The cells of the first table after some words, without its head."""
    lines = PAGE[PAGE.index(after) :].split("\n|---|")[1].splitlines()[1:]
    table = lines[: next((place for place, line in enumerate(lines) if not line.startswith("|")), len(lines))]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The store that the page speaks of: labels of nucleotides, labels of sequences in parts, two layers of a model."""
    monkeypatch.chdir(tmp_path)
    made = embedstore.open_store("store.zarr", mode="a")
    names = ("other", "exon", "intron")
    genes = TaskRecord(name="genes", level="nucleotide", type="class", names=names, metric="mcc", probe=PROBE)
    promoters = TaskRecord(
        name="promoters", level="sequence", type="multilabel", names=("G", "C"), metric="auroc", probe=PROBE
    )
    sequences = random_sequences([60 + number for number in range(36)], seed=2)
    parts = [f"part{1 + number % 3}" for number in range(36)]
    for record, splits in ((genes, [SPLITS[number % 6] for number in range(36)]), (promoters, parts)):
        labels = planted_labels(record.level, record.type, sequences)
        made.add_task(tasks.from_sequences(record.name, sequences, splits=splits, labels=labels, record=record))
        for name, layer in (("lm", 4), ("lm.layer2", 2)):
            model = ToyModel(width=48, seed=layer)
            model.name, model.record = name, {**model.record, "layer": layer, "layers": 4}
            embedstore.embed(made, record.name, model, progress=False)
    return made


def test_the_commands_and_the_code_of_the_page(store, capsys):
    commands = [line.split("#")[0].strip() for line in blocks("")[0].splitlines()]
    assert [shlex.split(command)[1] for command in commands] == [*["probe"] * 5, "results"]
    for command in commands:
        for long, short in SMALL.items():
            command = command.replace(long, short)
        assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert re.search(r"^Learning curves, checkpoint and this table are in store.results/genes/lm/", shown, re.MULTILINE)
    found: dict[str, object] = {}
    for number, code in enumerate(blocks("python")):
        exec(compile(code, f"probes.md, block {number}", "exec"), found)
    files = {path.name for path in found["result"].path.iterdir()}
    assert files == {name for row in rows_of("| File | What |") for name in re.findall(r"`([\w.]+)`", row[0])} - {STATE}
    assert set(found["profile"]["layer"]) == {2, 4}
    assert found["track"]["truth"].notna().all()


def test_the_tables_name_every_probe_recipe_fix_and_receptive_field():
    rows = {row[0].strip("`"): row for row in rows_of("| `--probe` |")}
    assert list(rows) == sorted(PROBES, key=list(rows).index)
    for name, kind in NETWORKS.items():
        levels = "all" if len(kind.levels) == 3 else ", ".join(kind.levels)
        assert rows[name][3].startswith(levels), name
        assert rows[name][2] == {"rows": "rows", "pooled or rows": "means", "onehot": "`onehot`"}[kind.needs]
        for setting in kind.defaults:
            assert f"`{setting}`" in PAGE
    assert [row[0] for row in rows_of("What `bend` does otherwise")] == [fix.split()[0].strip(":") for fix in FIXES]
    assert all(f"`{name}`" in PAGE for name in RECIPES)


@pytest.mark.parametrize("kernel", [3, 9])
def test_the_receptive_fields_are_those_of_the_network(kernel):
    network = ResNet(2, encoder_hidden=5, encoder_kernel=kernel)
    encoder = 1 + (kernel - 1) * sum(network.spec.dilations())
    assert re.search(rf"sees {encoder:,}\b", PAGE)
    assert f"{network.receptive_field:,}" in PAGE


def test_the_messages_of_the_page_are_those_of_the_code():
    root = Path(__file__).parents[2]
    code = " ".join(path.read_text() for folder in ("probes", "embedstore") for path in (root / folder).glob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # strings over several lines
    for row in rows_of("| Message | Cure |"):
        words = [part.strip(" `") for part in re.split(r"\.\.\.|'\w+'", row[0])]
        for part in filter(None, words):
            assert re.search(re.sub(r"\d+|\bnan\b", ".*?", re.escape(part)), code), part
