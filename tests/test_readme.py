"""What the README tells a user to type works as written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import embedstore
from embedstore.cli import main
from embedstore.simulate import simulate_genome, write_gene_finding
from embedstore.simulated_coding import coding_world

README = (Path(__file__).parents[1] / "README.md").read_text()
SWEEP = """
store = "store.zarr"
[[run]]
tasks = "gene_finding"
models = ["lm", "onehot"]
probes = "ridge"
"""


def block(kind: str, after: str) -> str:
    """The first code block of a kind after some words."""
    return re.findall(rf"```{kind}\n(.*?)```", README[README.index(after) :], re.DOTALL)[0]


@pytest.fixture
def user_files(tmp_path, monkeypatch):
    """The files that the README names, in the current folder."""
    files = write_gene_finding(simulate_genome(length=200_000, genes=20, seed=1), tmp_path)
    files.bed.rename(tmp_path / "genes.bed")
    files.labels.rename(tmp_path / "genes.hdf5")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_and_the_python_code(user_files, capsys):
    commands = [line.split("#")[0] for line in block("", "## Use").splitlines() if line.startswith("embedstore ")]
    assert [shlex.split(command)[1] for command in commands] == [
        *("pretrain", "plan", "embed", "probe", "probe", "results", "info")
    ]
    for command in commands:
        words = shlex.split(command.replace("--minutes 10", "--steps 3 --hidden 8 --layers 1"))
        assert main(words[1:]) == 0, capsys.readouterr().err
    assert "complete" in capsys.readouterr().out
    identity = embedstore.open_store("store.zarr").samples("gene_finding")["id"][0]
    code = block("python", "In Python:").replace("chr1:841-2455(-)|gene1", identity)
    exec(compile(code, "README.md", "exec"), {})

    Path("all.toml").write_text(SWEEP)
    for line in block("", "## Probes").splitlines():
        command = line.split("#")[0].replace("--workers 4", "").replace("--recipe best", "--recipe best --epochs 2")
        assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    assert "| baseline | kmer3 | ridge | bend |" in capsys.readouterr().out


QUICK = "--samples 90 --test 30 --permutations 1 --seeds 1 --draws 40 --partition-only"


def test_proteins_and_their_codons(tmp_path, monkeypatch, capsys):
    """The commands of that section, on a simulated table."""
    monkeypatch.chdir(tmp_path)
    world = coding_world("mixed", samples=90, test=30, valid=20).data.table
    world[["id", "cds", "label", "species", "split"]].to_csv("proteins.tsv", sep="\t", index=False)
    for line in block("", "## Proteins and their codons").splitlines():
        command = line.split("#")[0].replace("--seeds 5", "--seeds 2")
        command = command.replace("--world mixed", f"--world mixed {QUICK}")
        assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    store = embedstore.open_store("store.zarr")
    assert store.tasks() == [
        *("melting_point", "melting_point.permuted.seed0", "melting_point.permuted.seed1", "melting_point.protein")
    ]
    assert (store.samples("melting_point")["id"] == store.samples("melting_point.protein")["id"]).all()
    assert "melting_point/codon_composition: test r2" in capsys.readouterr().out
    assert "Verdict" in Path("report.html").read_text()


def test_reading_without_embedstore(user_files, capsys):
    """The lines of docs/format.md, on a store with that name."""
    options = "--bed genes.bed --labels genes.hdf5 --fasta genome.fa --model ./resnet_lm --store STORE.zarr"
    for command in (
        "pretrain genome.fa --out resnet_lm --steps 3 --hidden 8 --layers 1",
        f"embed gene_finding {options}",
    ):
        assert main(shlex.split(command)) == 0, capsys.readouterr().err
    text = (Path(__file__).parents[1] / "docs" / "format.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    found: dict[str, object] = {}
    exec(compile(code, "format.md", "exec"), found)
    store = embedstore.open_store("STORE.zarr")
    expected = store.embedding("gene_finding", "resnet_lm").read([7]).nucleotides()
    assert (found["nucleotides"] == expected).all()
