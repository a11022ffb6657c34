"""The page about variants: its commands and code run as shown, and its tables say what the code does."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pandas as pd
import pytest
from variant_inputs import write_files, write_gff

from analysis.variants import SCORES
from embedstore.cli import main

GOLDEN = Path(__file__).parents[1] / "golden"
PAGE = (Path(__file__).parents[2] / "docs" / "variants.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def rows_of(start: str) -> list[list[str]]:
    """The rows of the table that begins with a text, without its head."""
    lines = PAGE[PAGE.index(start) :].splitlines()
    table = lines[2 : next(place for place, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in table]


@pytest.fixture
def user_files(tmp_path, monkeypatch):
    """The files that the page speaks of, in the current folder."""
    files = write_files(tmp_path)
    text = files.vcf.read_text().replace("LABEL", "label").replace("KIND", "consequence")
    files.vcf.write_text(text)
    write_gff(tmp_path / "genes.gff3", files.sim)
    shutil.copytree(GOLDEN / "resnet_lm", tmp_path / "lm")
    monkeypatch.chdir(tmp_path)
    return files


def test_the_commands_and_the_code_of_the_page(user_files, capsys):
    commands = [line.split("#")[0].strip() for line in blocks("")[0].splitlines()]
    assert [shlex.split(command)[2] for command in commands] == ["check", "score", "evaluate", "compare", "mutagenesis"]
    for command in commands:
        if " compare " in command:
            shutil.copy("scores.parquet", "other.parquet")
        assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    named = set(re.findall(r"`((?:scores|map|auroc)\.[\w.]+)`", PAGE)) | {"auroc.csv"}
    assert {name for name in named if not Path(name).exists()} == {"scores.not_scored.tsv"}
    found: dict[str, object] = {}
    for number, code in enumerate(blocks("python")):
        exec(compile(code, f"variants.md, block {number}", "exec"), found)
    table = pd.read_parquet("scores.parquet")
    assert table["position"].tolist() == user_files.table["position"].tolist()


def test_the_table_of_scores_is_that_of_the_code():
    rows = rows_of("| Score |")
    assert [row[0] for row in rows] == list(SCORES)
    assert [row[3] for row in rows] == ["+" if kind.direction == 1 else "-" for kind in SCORES.values()]
    needs = {
        "rows": "rows",
        "pooled": "means",
        "masked": "masked model with head",
        "reference": "masked model with head",
    }
    needs |= {"left": "causal model with head", "sequence": "causal model with head"}
    assert [row[2] for row in rows] == [needs[kind.needs] for kind in SCORES.values()]


def test_the_options_of_the_page_are_those_of_the_commands(capsys):
    options = set()
    for command in ("check", "score", "evaluate", "compare", "mutagenesis"):
        with pytest.raises(SystemExit):
            main(["variants", command, "--help"])
        options |= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert set(re.findall(r"--[a-z-]+", "".join(re.findall(r"`[^`\n]+`", PAGE)) + blocks("")[0])) <= options
