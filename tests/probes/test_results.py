from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from probe_tasks import planted_store

import embedstore
from embedstore.cli import main
from embedstore.errors import CorruptError, InputError
from probes import commands, results
from probes.results import read_results, read_row, results_folder, write_json

ROW = {
    "task": "planted", "model": "toy", "probe": "cnn", "recipe": "bend", "layer": None, "fold": None, "seed": 0,
    "metric": "mcc", "test": 0.5, "low": 0.4, "high": 0.6, "targets": 1, "targets_defined": 1, "n_test": 8,
    "blocks_missing": 0, "record": "planted", "published": False,
}  # fmt: skip


def put(out, name, **values):
    row = {**ROW, **values}
    folder = Path(out) / row["task"] / row["model"] / name
    folder.mkdir(parents=True)
    write_json(folder / "result.json", row)
    return folder


def test_results_lie_beside_the_store(tmp_path, monkeypatch):
    for given, wanted in (
        ("demo/store.zarr", "demo/store.results"),
        (Path("demo/store.zarr/"), "demo/store.results"),
        ("genes", "genes.results"),
        ("file:///data/genes.zarr", "/data/genes.results"),
        ("s3://bucket/deep/genes.zarr", "genes.results"),
        ("https://host/genes.zarr?key=a/b", "genes.results"),
        ("gs://bucket", "bucket.results"),
    ):
        assert results_folder(given) == Path(wanted)
    monkeypatch.chdir(tmp_path)
    assert results_folder(".") == tmp_path.with_suffix(".results")
    monkeypatch.setenv("HOME", "/home/me")
    assert results_folder("~/s.zarr") == Path("/home/me/s.results")
    store = embedstore.open_store(tmp_path / "mine.zarr", mode="a")
    assert results_folder(store) == tmp_path / "mine.results"
    for nowhere in ("memory://", embedstore.open_store("memory://", mode="a"), "/"):
        with pytest.raises(InputError, match="no place beside it for results: give the folder"):
            results_folder(nowhere)


def test_finished_results_are_read_with_their_folders(tmp_path):
    assert read_results(tmp_path / "nothing").empty
    assert read_results(tmp_path).empty
    second = put(tmp_path, "b", seed=1, test=math.nan)
    first = put(tmp_path, "a")
    other = put(tmp_path, "c", model="onehot", task="another")
    (tmp_path / "planted/toy/unfinished").mkdir()
    (tmp_path / "planted/toy/unfinished/spec.json").write_text("{}")
    (tmp_path / "planted/toy/unfinished/.result.json.77").write_text("{")
    table = read_results(tmp_path)
    assert table["path"].tolist() == [str(other), str(first), str(second)]
    assert table.columns[-1] == "path"
    assert table["seed"].tolist() == [0, 0, 1]
    assert table["test"].isna().tolist() == [False, False, True]
    assert table.drop(columns="path").columns.tolist() == list(ROW)


@pytest.mark.parametrize("text", ["", '{"task": "planted"', "[1, 2]", "null", "\x00\x00", "caf\xe9"])
def test_a_damaged_result_is_named(text, tmp_path):
    put(tmp_path, "a")
    file = put(tmp_path, "b") / "result.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(CorruptError, match="remove its folder and run the same probe again") as raised:
        read_results(tmp_path)
    assert str(raised.value).startswith(f"{file}: ")
    with pytest.raises(CorruptError):
        read_row(file)


# ---- the command ---------------------------------------------------------------------------------


@pytest.fixture
def command(monkeypatch):
    """`embedstore results`, whether or not the installed package knows it already."""
    from embedstore import cli

    class Point:
        name = "results"

        def load(self):
            return commands.add_results

    monkeypatch.setattr(cli, "entry_points", lambda group: [Point()])
    return lambda *words: main(["results", *map(str, words)])


def test_the_command_prints_every_format(command, tmp_path, capsys):
    store = tmp_path / "s.zarr"  # the results are enough: the store may be elsewhere by now
    put(tmp_path / "s.results", "a")
    put(tmp_path / "s.results", "b", model="onehot", test=0.25)
    put(tmp_path / "s.results", "c", task="another", test=0.125)
    assert command(store) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[0].split() == ["kind", "model", "probe", "recipe", "another", "(MCC)", "planted", "(MCC)"]
    assert command(store, "--task", "planted", "--format", "csv", "--long") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[3] for line in lines] == ["model", "toy", "onehot"]
    assert command(store, "--format", "markdown") == 0
    assert capsys.readouterr().out.startswith("| kind |")
    assert command(store, "--format", "latex", "--task", "another") == 0
    shown = capsys.readouterr().out
    assert r"\toprule" in shown
    assert "planted" not in shown
    moved = tmp_path / "elsewhere"
    (tmp_path / "s.results").rename(moved)
    assert command(store, "--out", moved) == 0
    assert "0.500*" in capsys.readouterr().out


def test_what_the_command_refuses(command, tmp_path, capsys):
    assert command(tmp_path / "none.zarr") == 1
    assert "There is no store at" in capsys.readouterr().err
    store = planted_store(samples=6, path=tmp_path / "s.zarr")
    assert command(store.path) == 1
    said = capsys.readouterr().err
    assert f"there are no finished results in {tmp_path / 's.results'}" in said
    assert f"embedstore probe TASK --model MODEL --store {store.path} --out {tmp_path / 's.results'}" in said
    folder = put(tmp_path / "s.results", "a")
    assert command(store.path, "--task", "plant") == 1
    assert "has no results of task 'plant'. Did you mean 'planted'?" in capsys.readouterr().err
    (folder / "result.json").write_text("{")
    assert command(store.path) == 3
    assert f"{folder / 'result.json'}: " in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        command(store.path, "--format", "excel")
    assert stopped.value.code == 2


def test_json_of_results_is_plain(tmp_path):
    folder = put(tmp_path, "a", test=math.nan)
    assert json.loads((folder / "result.json").read_text())["test"] is None
    assert results.RESULT == "result.json"
