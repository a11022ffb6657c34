"""The page about tuning: its commands and code run on a small store, and its table holds what is counted."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from encoders import GOLDEN
from toys import random_sequences
from tuning import AMINO_ACIDS, residue_store, splits_of

import embedstore
from embedstore import tasks
from embedstore.cli import main
from embedstore.models import load
from embedstore.models.ia3 import load_ia3
from embedstore.tasks import TaskRecord
from probes import read_results
from probes.ia3_probe import IA3Probe

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "finetuning.md").read_text()
MODELS = {"nt_v2_500m_multi_species --checkpoint nt_v2": "./nt_v2", "esm2_650m --checkpoint esm2": "./esm2"}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The store that the page speaks of, with short tasks, and small checkpoints under the names of the folders."""
    monkeypatch.chdir(tmp_path)
    for name in ("nt_v2", "esm2"):
        shutil.copytree(GOLDEN / name, tmp_path / name)
    splits = ["train"] * 24 + ["valid"] * 4 + ["CASP12"] * 4 + ["CB513"] * 4
    made = residue_store("store.zarr", 36, splits=splits)
    residues = made.record("residues").to_dict() | {"name": "secondary_structure"}
    labels = np.split(made.labels("residues").values, np.cumsum(made.lengths("residues"))[:-1])
    texts = [codes.tobytes().decode() for codes in made.sequences("residues")]
    record = TaskRecord.from_dict(residues)
    made.add_task(tasks.from_sequences("secondary_structure", texts, labels=labels, record=record, splits=splits))
    import pandas as pd

    species = pd.DataFrame({"species": ["yeast", "human"] * 18})
    for name, alphabet in (("melting_point", "dna"), ("melting_point.protein", "protein")):
        texts = random_sequences([30] * 36, seed=3)
        if alphabet == "protein":
            texts = ["".join(np.random.default_rng(n).choice(list(AMINO_ACIDS), 10)) for n in range(36)]
        record = TaskRecord(name=name, level="sequence", type="value", metric="r2", alphabet=alphabet)
        options = {"labels": [float(text.count("G")) for text in texts], "splits": splits_of(36), "columns": species}
        made.add_task(tasks.from_sequences(name, texts, record=record, **options))
    return made


def test_the_commands_of_the_page(store, capsys):
    commands = blocks("")[0].splitlines()
    assert [shlex.split(line)[1] for line in commands] == [*["finetune"] * 4, "results"]
    for command in commands:
        for long, short in MODELS.items():
            command = command.replace(long, short)
        command = command.replace("--device cuda ", "")
        if "finetune" in command:
            command += " --steps 4 --evaluate-every 2"
        assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert re.search(
        r"^trained: 192 numbers in IA3 vectors and 25 in the head, 0\.\d{3}% of the [\d,]+ of nt_v2",
        shown,
        re.MULTILINE,
    )
    assert re.search(
        r"^secondary_structure/nt_v2: CB513 accuracy 0\.\d+ \(95 % interval .* over 4 samples\)", shown, re.MULTILINE
    )
    assert re.search(r"^melting_point/nt_v2: test r2 \S+ .* step [24] of 4$", shown, re.MULTILINE)
    assert "The IA3 vectors are in esm2.ia3" in shown
    assert "ia3" in shown.split("The IA3 vectors are in esm2.ia3")[1]
    assert len(read_results("store.results")) == 2 + 2 + 1
    load_ia3("esm2.ia3", load(GOLDEN / "esm2"))


def test_tests_on_the_splits_that_are_named(store, capsys):
    line = "finetune secondary_structure --model ./nt_v2 --store store.zarr --test CB513 --name mine --steps 2"
    assert main(shlex.split(f"{line} --evaluate-every 2")) == 0
    assert "CB513 accuracy" in capsys.readouterr().out
    assert read_results("store.results")["model"].tolist() == ["mine"]


def test_the_code_of_the_page(store, monkeypatch):
    found: dict[str, object] = {}
    (code,) = blocks("python")
    code = code.replace('"nt_v2_500m_multi_species", checkpoint="nt_v2"', '"./nt_v2"')
    code = code.replace("steps=10_000, evaluate_every=500", "steps=4, evaluate_every=2")
    exec(compile(code, "finetuning.md", "exec"), found)
    history, predictions = (getattr(found["result"], name) for name in ("history", "predictions"))
    comments = dict(re.findall(r"^result\.(\w+) +# (.*)$", code, re.MULTILINE))
    assert set(history) == set(comments["history"].split(", "))
    assert list(predictions) == comments["predictions"].split(", ")
    assert embedstore.open_store("store.zarr").embedding("melting_point", "nt_v2.melting_point").width == 24


def test_the_numbers_of_the_page():
    """Vectors are three per block, heads a row for each output: the sums behind the table."""
    sizes = {
        "NT-v2 500M": (29, 1024, 4096, 2),
        "ESM-2 650M, ESM-1b": (33, 1280, 5120, 1),
        "DNABERT-2": (12, 768, 3072, 0),
    }
    for name, (layers, width, inner, slots) in sizes.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} |")).split("|")
        cells = [cell.strip().replace(",", "") for cell in row[2:-1]]
        assert int(cells[0]) == layers * (2 * width + inner)
        assert int(cells[2]) == width + 1
        assert cells[3] == (str(8 * slots * (width + 1)) if slots else "")
    defaults = IA3Probe()
    assert (defaults.learning_rate, defaults.batch_size) == (0.003, 8)
    assert (
        f"{defaults.steps:,} steps, an evaluation on the validation samples every {defaults.evaluate_every}"
        in PAGE.replace("\n", " ")
    )
    assert f"`--tokens` tokens ({defaults.tokens:,})" in PAGE


def test_the_messages_of_the_page_are_those_of_the_code():
    code = " ".join(
        path.read_text() for folder in ("probes", "embedstore/models") for path in (ROOT / folder).glob("*.py")
    )
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # strings over several lines
    code = re.sub(r"\{[^{}]*\}", "{}", code)
    rows = PAGE.split("| Message | Cure |\n|---|---|\n")[1].splitlines()
    assert len(rows) == 6
    for row in rows:
        message = row.split("|")[1].strip(" `")
        for part in re.split(r" ?\.\.\. ?|\b(?:nan|dna|protein|gc)\b", message):
            assert part.strip() in code, part
