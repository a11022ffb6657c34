"""The command `embedstore probe`."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path

import pytest
from probe_tasks import planted_store
from toys import ToyModel

import embedstore
from embedstore import layout
from embedstore.cli import main
from embedstore.errors import InputError
from probes.predictions import list_predictions


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A task of folds, one embedding of which half is there."""
    path = tmp_path_factory.mktemp("store") / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SMALLEST_SHARD_BYTES", 4096)
        patch.setattr(layout, "CHUNK_BYTES", 512)
        made = planted_store(
            "sequence", "multilabel", samples=60, splits=[f"part{i % 3 + 1}" for i in range(60)], path=path
        )
        model = ToyModel(width=48)
        hidden, calls = model.hidden, []

        def stopping(ids):
            calls.append(1)
            if len(calls) > 60:
                raise KeyboardInterrupt
            return hidden(ids)

        model.hidden = stopping  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            embedstore.embed(made, "planted", model, name="half", batch_tokens=30, progress=False)  # type: ignore[arg-type]
        assert 0 < len(made.embedding("planted", "half").missing()) < made.embedding("planted", "half").blocks
    return made


@pytest.fixture
def run(run, store):
    return partial(run, "probe", "planted", "--store", store.local, "--out", "out")


def spec() -> dict:
    (path,) = Path("out").rglob("result.json")
    return json.loads(path.with_name("spec.json").read_text())


QUICK = ("--model", "toy", "--fold", 2, "--set", "draws=20")


def test_every_option_reaches_the_probe(run, store) -> None:
    options = ["--probe", "mlp", "--recipe", "best", "--epochs", 2, "--batch-size", 7, "--learning-rate", 0.01]
    options += ["--hidden", 5, "--patience", 1, "--seed", 9, "--device", "cpu", "--predictions"]
    options += ["--set", "dropout=0.25", "--set", "weight-decay=0.5", "--set", "schedule=constant"]
    code, out, _ = run(*QUICK, *options)
    assert code == 0
    found = spec()
    assert (found["kind"], found["recipe"], found["draws"]) == ("mlp", "best", 20)
    settings = {"epochs": 2, "batch_size": 7, "learning_rate": 0.01, "hidden": 5, "patience": 1, "seed": 9}
    settings |= {"weight_decay": 0.5, "schedule": "constant", "options": {"dropout": 0.25}, "clip": 1.0}
    assert settings.items() <= found["probe"].items()
    assert found["data"]["test"]["splits"] == ["part2"]
    assert re.search(r"planted/toy: test auroc [\d.]+ \(95 % interval .* over 20 samples\), .* of 2\n", out)
    assert re.search(r"^0 +G +20 ", out, re.MULTILINE)
    assert "PARTIAL" not in out
    (folder,) = Path("out/planted/toy").iterdir()
    assert f"this table are in out/planted/toy/{folder.name}" in out
    assert folder.name in list_predictions(store, "planted", "toy")["name"].tolist()


def test_what_is_missing_is_said_first_or_last(run) -> None:
    half = ("--model", "half", *QUICK[2:], "--probe", "ridge")
    code, _, err = run(*half)
    assert code == 1
    assert re.search(
        r"planted/half: \d+ of \d+ blocks are not embedded yet; .* again to add them, or use what is there with "
        r"allow_partial=True \(--allow-partial\): every result then says so",
        " ".join(err.split()),
    )
    code, out, _ = run(*half, "--allow-partial")
    assert code == 0
    missing = re.search(r"PARTIAL: (\d+) blocks of the embedding were missing, and their samples left out", out)
    assert spec()["blocks_missing"]
    assert len(spec()["blocks_missing"]) == int(missing[1])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--probe lienar", "there is no probe 'lienar'. Did you mean 'linear'"),
        ("--recipe bst", "there is no recipe 'bst'. Did you mean 'best'"),
        ("--set epocs=3", "the probe has no parameter 'epocs'. Did you mean 'epochs'"),
        ("--probe ridge --epochs 3", "the probe has no parameter 'epochs'"),
        ("--probe linear --set dropout=0.1", "the probe has no parameter 'dropout'"),
        ("--set epochs", "--set epochs: NAME=VALUE is wanted, such as encoder_kernel=9"),
        ("--set recipe=best", "--set recipe=best: recipe is no parameter of a probe; the command has an argument for"),
        ("--set allow-partial=true", "allow_partial is no parameter of a probe"),
        ("--set =3", "--set =3: NAME=VALUE is wanted"),
        ("--set epochs=", "--set epochs=: NAME=VALUE is wanted"),
        ("--set epochs=ten", "epochs must be 1 or more, a whole number; got 'ten'"),
        ("--set epochs=2.5", "epochs must be 1 or more, a whole number; got 2.5"),
        ("--set precision=float8", "precision is 'float8'; it must be one of float32, bfloat16"),
        ("--fold 7", "fold 7 is not possible: folds are 1 to the number of splits"),
        ("--probe basset --model onehot", "Basset needs samples of one length, .* some of \\d+ and some of \\d+ nucl"),
        ("--probe resnet", "network 'resnet' reads letters, the rows of model 'onehot'; these have 48 channels"),
        ("--model toi", "Did you mean 'toy'"),
        ("--model kmer9", "there is no baseline 'kmer9'; those computed from letters are kmer1"),
        ("--epochs many", "argument --epochs: invalid int value: 'many'"),
    ],
)
def test_mistakes(run, words: str, message: str) -> None:
    code, out, err = run(*QUICK, *words.split())
    assert code in (1, 2)
    assert out == ""
    assert re.search(message, " ".join(err.split())), err
    assert not list(Path().rglob("result.json"))


@pytest.mark.parametrize("name", ["kmer1", "kmer6", "gc", "onehot"])
def test_names_of_baselines_are_not_for_embeddings(store, name: str) -> None:
    with pytest.raises(InputError, match="never stored"):
        embedstore.embed(store, "planted", ToyModel(width=48), name=name, progress=False)  # type: ignore[arg-type]
    assert name not in store.models("planted")


def test_one_of_several_test_splits(tmp_path, capsys, monkeypatch):
    """The published test sets of secondary structure have names of their own."""
    monkeypatch.chdir(tmp_path)
    names = ["train", "train", "valid", "CASP12", "CB513"]
    splits = [names[i % 5] for i in range(60)]
    path = tmp_path / "s.zarr"
    planted_store("sequence", "value", samples=60, splits=splits, path=path)
    base = ["probe", "planted", "--store", str(path), "--model", "toy", "--probe", "ridge"]
    assert main([*base, "--test", "CB513"]) == 0
    assert "over 12 samples" in capsys.readouterr().out
    assert main([*base, "--test", "CB514"]) == 1
    assert "no split 'CB514', only CASP12, CB513, train, valid. Did you mean 'CB513'?" in capsys.readouterr().err
