"""Outputs of commands: refused before the work, and on disk whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file

import embedstore
from embedstore import outputs
from embedstore.cli import main
from embedstore.errors import DiskSpaceError, InputError
from embedstore.models import training_state
from embedstore.outputs import check_file, check_folder, write_atomically, written_whole

RESNET = Path(__file__).parents[1] / "golden" / "resnet_lm"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder with a file, a folder and a store in it."""
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("kept")
    Path("folder").mkdir()
    store = embedstore.open_store("s.zarr", mode="a")
    store.add_task(embedstore.tasks.from_sequences("few", ["ACGT" * 20] * 6, splits=["train", "valid", "test"] * 2))
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Whatever lies on the way to an output: said of files and of folders in the same words.
BOTH = [
    ("file/x.csv", r"file is a file, and a folder is wanted there. Name another place\."),
    ("file/y/x.csv", r"file is a file, and a folder is wanted there"),
    ("/dev/null/x.csv", r"/dev/null is no folder, and a folder is wanted there"),
    ("s.zarr/x.csv", r"lies in the store \S+s\.zarr, where nothing else may be. Name a place beside it\."),
    ("s.zarr/few/x.csv", r"lies in the store \S+s\.zarr, where nothing"),
]


@pytest.mark.parametrize("check", [check_file, check_folder])
@pytest.mark.parametrize(("path", "message"), BOTH)
def test_a_place_where_nothing_can_be(here, check, path, message) -> None:
    with pytest.raises(InputError, match=rf"^--there {path}:? .*{message}"):
        check(path, option="--there")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("folder", r"^--out folder is a folder; a file is wanted. Name one in it\.$"),
        ("none/x.csv", r"^--out none/x.csv: there is no folder none. Make it, or name another place\.$"),
        ("/dev/null", r"^--out /dev/null is there and is no ordinary file. Name another file\.$"),
        ("gone", r"^--out gone is there and is no ordinary file"),
    ],
)
def test_a_file_that_cannot_be(here, path, message) -> None:
    Path("gone").symlink_to("nowhere/at/all")
    with pytest.raises(InputError, match=message):
        check_file(path)


@pytest.mark.parametrize("name", ["x.txt", "x", ".csv", "x.csv.gz"])
def test_a_suffix_that_says_nothing(here, name) -> None:
    with pytest.raises(InputError, match=rf"--out {name}: the name must end in one of .csv, .tsv, which says what"):
        check_file(name, suffixes=(".csv", ".tsv"))


def test_the_input_is_not_overwritten(here) -> None:
    Path("link").symlink_to("file")
    with pytest.raises(InputError, match="--out link is the input file, which would be overwritten"):
        check_file("link", source="file")
    assert check_file("other", source="file") == Path("other")
    assert check_file("file", source="nowhere") == Path("file")


@pytest.mark.parametrize("check", [check_file, check_folder])
def test_no_permission(here, check, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "folder")
    with pytest.raises(InputError, match=r"folder/x: you have no permission to write into \S*folder\. Name another"):
        check("folder/x")


def test_a_file_that_may_not_be_changed(here, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "file")
    with pytest.raises(InputError, match="--out file is there and may not be written to"):
        check_file("file")


def test_what_can_be_written_is_not_written_yet(here, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(here / "home"))
    before = contents(here)
    assert check_file("folder/x.csv", suffixes=[".csv"]) == Path("folder/x.csv")
    assert check_folder("a/b/c") == Path("a/b/c")
    assert check_folder("~/results") == here / "home" / "results"
    assert check_folder("~nobody_of_that_name/x") == Path("~nobody_of_that_name/x")
    assert contents(here) == before
    assert not Path("a").exists()


# ---- whole or not at all -------------------------------------------------------------------------


@given(st.lists(st.binary(), min_size=1))
def test_a_file_is_replaced(tmp_path_factory, several) -> None:
    path = tmp_path_factory.mktemp("written") / "x"
    for data in several:
        write_atomically(path, data)
        assert path.read_bytes() == data
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("a slip"), KeyboardInterrupt(), OSError(errno.EIO, "a bad disk")])
def test_an_error_leaves_what_was_there(here, error) -> None:
    with pytest.raises(type(error)) as caught, written_whole(Path("file")) as temporary:
        temporary.write_text("half")
        raise error
    assert caught.value is error
    assert Path("file").read_text() == "kept"
    assert {path.name for path in here.iterdir()} == {"file", "folder", "s.zarr"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk(here, number) -> None:
    message = r"^file: the disk is full \([\d,.]+ MiB free\), so this file was not written\. Free some space"
    with pytest.raises(DiskSpaceError, match=message), written_whole(Path("file")) as temporary:
        temporary.write_text("half")
        raise OSError(number, "full")
    assert Path("file").read_text() == "kept"


def test_a_link_stays_one(here) -> None:
    Path("link").symlink_to("file")
    write_atomically(Path("link"), b"new")
    assert Path("link").is_symlink()
    assert Path("file").read_text() == "new"


def test_tensors_on_a_full_disk(here, monkeypatch) -> None:
    """Safetensors has an error of its own, with the system's number in its text."""
    tensors = {"a": torch.arange(3)}
    training_state.write_tensors(Path("t"), tensors, {})
    usual = Path("new")
    usual.touch()
    assert Path("t").stat().st_mode == usual.stat().st_mode, "others may read it where they may read other files"

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(training_state, "save_file", full)
    with pytest.raises(DiskSpaceError, match="^t: the disk is full"):
        training_state.write_tensors(Path("t"), {"a": torch.zeros(9)}, {})
    assert np.array_equal(load_file("t")["a"], [0, 1, 2])


def test_another_error_of_safetensors(here, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise SafetensorError("no such type")

    monkeypatch.setattr(training_state, "save_file", fail)
    with pytest.raises(SafetensorError, match="no such type"):
        training_state.write_tensors(Path("t"), {"a": torch.zeros(9)}, {})


# ---- commands ------------------------------------------------------------------------------------

EMBED = f"embed few --model {RESNET}"
COMMANDS = {
    "--out": [
        "pretrain genome.fa --steps 1",
        "probe few --model gc --store s.zarr",
        "finetune few --model nowhere --store s.zarr",
        "represent few --model gc --store s.zarr",
        "download gene_finding",
        "curate list.csv --fasta genome.fa",
        "demo",
        "melting-point --world mixed",
        "report s.zarr",
        f"slurm dask -- {EMBED}",
    ],
    "--store": [f"{EMBED} --table t.csv", "coding list.csv --task melting_point"],
    "--rejects": ["coding list.csv --task melting_point --faults reject"],
    "--vectors": ["finetune few --model nowhere --store s.zarr"],
    "--cache": ["curate list.csv --offline"],
}


@pytest.mark.parametrize(("option", "command"), [(option, one) for option, many in COMMANDS.items() for one in many])
def test_every_output_is_checked_before_the_work(here, capsys, option, command) -> None:
    """Inputs that do not exist would be missed next: the output is looked at first."""
    before = contents(here)
    place = "file/x" + {"report": ".html", "finetune": ".safetensors"}.get(command.split()[0], "")
    words, dashes, embed = command.partition(" -- ")
    assert main([*words.split(), option, place, *dashes.split(), *embed.split()]) == 1
    said = capsys.readouterr().err
    assert f"{option}" in said
    assert "file is a file, and a folder is wanted there" in said
    assert said.count("\n") == 1
    assert contents(here) == before


def test_the_folder_of_a_sweep_is_checked_too(here, capsys) -> None:
    run = '[[run]]\ntasks = "few"\nmodels = "gc"\nprobes = "majority"\n'
    Path("sweep.toml").write_text('store = "s.zarr"\nout = "file/x"\n' + run)
    assert main(["sweep", "sweep.toml", "--dry-run"]) == 1
    assert "file is a file, and a folder is wanted there" in capsys.readouterr().err
    assert main(["sweep", "sweep.toml", "--dry-run", "--out", "s.zarr"]) == 1
    assert "--out s.zarr lies in the store" in capsys.readouterr().err


def test_what_killed_runs_have_left_of_a_file_is_removed_and_nothing_else(tmp_path):
    for name in ("a[1].csv", ".12.a[1].csv", ".7.a[1].csv", ".12.b.csv", ".x.a[1].csv", ".12.aa1.csv"):
        (tmp_path / name).touch()
    outputs.remove_unfinished(tmp_path / "a[1].csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".12.aa1.csv", ".12.b.csv", ".x.a[1].csv", "a[1].csv"]


def test_a_killed_writer_leaves_what_is_recognised(tmp_path):
    script = """
import os, signal, sys
from pathlib import Path
from embedstore.outputs import written_whole
with written_whole(Path(sys.argv[1])) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    file = tmp_path / "table.csv"
    subprocess.run([sys.executable, "-c", script, file], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    assert not file.exists()
    outputs.remove_unfinished(file)
    assert not list(tmp_path.iterdir())
