"""The pages about models: the table is that of the records, and the examples work as written."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import embedstore
from embedstore.cli import main
from embedstore.models.records import records, summary

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("models", "own_models")}


def block(kind: str, number: int) -> str:
    """One of the code blocks of own_models.md, in the order of the page."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGES["own_models"], re.DOTALL | re.MULTILINE)
    return [body for found, body in blocks if found == kind][number]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_is_that_of_the_records():
    lines = []
    for model in records().values():
        cells = summary(model)
        link = f"[{model.hub}](https://huggingface.co/{model.hub})" if model.hub else "-"
        numbers = [cells[name] for name in ("stride", "context", "width", "layers", "params", "per Mb", "licence")]
        lines.append(f"| {' | '.join([f'`{model.id}`', model.title, *numbers, link])} |")
    table = "\n".join(lines)
    found = re.search(r"\|---\|\n(.*?)\n\n", PAGES["models"], re.DOTALL)
    assert found is not None
    assert found[1] == table, f"docs/models.md needs this table:\n{table}"


def test_the_table_of_families_names_every_architecture_and_what_its_records_drop():
    section = PAGES["models"].split("## What each family needs")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if "`" in line[:4]]
    dropped = {name: row[3] for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert dropped == {model.architecture: model.drop for model in records().values() if model.id != "onehot"}
    assert "\n## Precision\n" in PAGES["models"]


def test_your_own_checkpoint(folder, capsys):
    shutil.copytree(ROOT / "tests" / "golden" / "nt_v2", folder / "my_checkpoint")
    (folder / "my_model.toml").write_text(block("toml", 0))
    found: dict[str, object] = {}
    exec(compile(block("python", 0), "own_models.md", "exec"), found)
    direct = embedstore.models.load(folder / "my_checkpoint", name="direct")
    embedstore.embed("store.zarr", "promoters", direct, progress=False)
    store = embedstore.open_store("store.zarr")
    mine, theirs = (store.embedding("promoters", name).read([0, 1]).nucleotides() for name in ("my_model", "direct"))
    np.testing.assert_array_equal(mine, theirs)
    for command in block("", 0).splitlines():
        assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    assert re.search(r"^checkpoint +\S+my_checkpoint$", capsys.readouterr().out, re.MULTILINE)


def test_a_new_encoder(folder, monkeypatch, capsys):
    """The package of the page, laid out as an installer would."""
    (folder / "my_encoder.py").write_text(block("python", 1))
    project = tomllib.loads(block("toml", 1))["project"]
    info = folder / f"my_encoder-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    ((group, points),) = project["entry-points"].items()
    (info / "entry_points.txt").write_text(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
    )
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "my_encoder", raising=False)
    found: dict[str, object] = {}
    exec(compile(block("python", 2), "own_models.md", "exec"), found)
    rows = np.repeat([[0.25, 0.25, 0.25, 0.25], [0, 0, 0, 1], [0.25, 0.25, 0.25, 0.25]], [12, 2, 12], axis=0)
    np.testing.assert_array_equal(found["shares"].to_numpy(), rows)
    assert main(["models"]) == 0
    assert re.search(r"^letter_shares +function ", capsys.readouterr().out, re.MULTILINE)
