"""What `load` accepts and refuses, and the trial that every loaded model must pass."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from embedstore.errors import CheckpointError, InputError
from embedstore.models import load, loading, record
from embedstore.models.architectures import ARCHITECTURES, RULES, recognise
from embedstore.models.checkpoints import read_checkpoint
from embedstore.models.network import Network

GOLDEN = Path(__file__).parents[1] / "golden"


@cache
def family(name):
    return load(GOLDEN / name)


def codes_of(text):
    return np.frombuffer(text.encode(), np.uint8)


def test_empty_sequence():
    with pytest.raises(InputError, match="empty sequence"):
        family("nt_v1").pieces(codes_of(""))


def test_load_of_a_known_model():
    model = load("resnet_lm", checkpoint=GOLDEN / "resnet_lm")
    assert (model.name, model.record["id"], model.record["checkpoint"]) == (
        "resnet_lm",
        "resnet_lm",
        str(GOLDEN / "resnet_lm"),
    )
    with pytest.raises(CheckpointError, match="not a checkpoint of nt_500m_1000g: .*'width': 24.*'width': 1280"):
        load("nt_500m_1000g", checkpoint=GOLDEN / "nt_v1")
    with pytest.raises(CheckpointError, match="not a checkpoint of resnet_lm"):
        load("resnet_lm", checkpoint=GOLDEN / "nt_v1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "nt_v2_50m_multispecies"}, "Did you mean 'nt_v2_50m_multi_species'"),
        ({"model": "no/such/folder"}, "neither a known model nor a record"),
        ({"model": "./nothing"}, "'./nothing' is neither a known model nor a record"),
        ({"model": "mine", "checkpoint": GOLDEN / "nt_v1"}, "No model is called 'mine'"),
        ({"model": "onehot"}, "computes it from its sequences"),
        ({"model": "resnet_lm"}, "give checkpoint="),
        ({"model": "resnet_lm", "checkpoint": "/no/such"}, "is not a folder"),
        ({"model": "nt_v2_50m_multi_species"}, "give revision="),
        ({"model": "nt_v2_50m_multi_species", "revision": "main"}, "branches and tags"),
        ({"model": "InstaDeepAI/agro-nucleotide-transformer-1b"}, "give revision="),
        ({"model": GOLDEN / "nt_v1", "revision": "0" * 40}, "is a local folder"),
        ({"model": GOLDEN / "nt_v1", "device": "cuda:99"}, "Cannot use the device"),
        ({"model": GOLDEN / "nt_v1", "device": "toaster"}, "Cannot use the device"),
        ({"model": GOLDEN / "nt_v1", "precision": "float8"}, "must be one of float32, tf32, bfloat16, float16"),
        ({"model": GOLDEN / "nt_v1", "precision": "tf32"}, "a mode of CUDA devices"),
        ({"model": GOLDEN / "nt_v1", "layer": "first"}, "has no layer 'first'"),
        ({"model": GOLDEN / "nt_v1", "rules": "mine"}, "must be one of authors, bend, kernels"),
        ({"model": GOLDEN / "esm2", "rules": "bend"}, "no rules 'bend' for 'esm' models, only for dnabert, hyenadna"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        load(**arguments)


def test_importing_the_package_does_not_import_torch():
    code = (
        "import sys, embedstore.models as m; m.records(); print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


class Broken(Network):
    """A network that fails the trial in one way."""

    width, layers = 4, 1

    def __init__(self, fault):
        super().__init__()
        self.fault = fault

    def forward(self, ids, layer, lengths=None):
        rows = torch.nn.functional.one_hot(ids % 4, 4).float()
        if self.fault == "constant":
            return torch.ones_like(rows)
        if self.fault == "nan":
            return rows / 0
        return rows[:, 1:] if self.fault == "short" else rows


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("constant", "does not change"),
        ("nan", "not finite"),
        ("short", "gives the shape"),
        ("unknown", r"makes unknown tokens of known letters \(60% of the tokens\)"),
    ],
)
def test_trial(monkeypatch, fault, message):
    spec = ARCHITECTURES["nucleotide_transformer"]
    monkeypatch.setitem(ARCHITECTURES, "nucleotide_transformer", spec._replace(build=lambda _: Broken(fault)))
    if fault == "unknown":

        def all_unknown(folder):
            tokenizer = spec.tokenizer(folder)
            return dataclasses.replace(tokenizer, word_ids=np.zeros_like(tokenizer.word_ids))

        monkeypatch.setitem(ARCHITECTURES, "nucleotide_transformer", spec._replace(tokenizer=all_unknown))
    with pytest.raises(CheckpointError, match=f"fails its trial: .*{message}"):
        load(GOLDEN / "nt_v1")


def test_trial_of_spans(monkeypatch):
    model = family("nt_v1")
    windows = model._windows._replace(cut=lambda codes: model.pieces(codes[:-1]))
    monkeypatch.setattr(loading, "Model", lambda *a, **k: type(model)(a[0], a[1], windows, **k))
    with pytest.raises(CheckpointError, match="do not tile"):
        load(GOLDEN / "nt_v1")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in GOLDEN.glob("*/spiece.model")))
def test_protein_trial(name):
    assert family(name).alphabet == "protein"


def test_every_checkpoint_is_of_one_architecture():
    expected = {
        "nt_v1": "nucleotide_transformer",
        "nt_v2": "nucleotide_transformer",
        "esm1b": "esm",
        "esm2": "esm",
        "resnet_lm": "convnet",
        "caduceus_ph": "caduceus",
        "caduceus_ps": "caduceus",
        "caduceus_ps_unfused": "caduceus",
        "gena_bert_last_ln": "gena_bert",
        "gena_bert_no_last_ln": "gena_bert",
    }
    for folder in sorted(path.parent for path in GOLDEN.glob("*/cases.json")):
        parts = read_checkpoint(folder)
        found = [name for name, spec in ARCHITECTURES.items() if spec.recognise(parts)]
        assert found == [expected.get(folder.name, folder.name)]
        assert recognise(parts) == found[0]
    assert all(rules.keys() <= ARCHITECTURES.keys() for rules in RULES.values())


def test_a_vocabulary_that_cannot_be_read(tmp_path):
    shutil.copytree(GOLDEN / "nt_v1", tmp_path / "copy")
    (tmp_path / "copy" / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(CheckpointError, match="cannot read the vocabulary"):
        load(tmp_path / "copy")


def test_a_protein_for_a_dna_model_and_the_reverse():
    with pytest.raises(InputError, match="protein"):
        family("nt_v1").pieces(codes_of("MKTAYIAKQRQISFVKSHFSRQ"))
    with pytest.raises(InputError, match="DNA"):
        family("esm2").pieces(codes_of("ACGT" * 20))


def test_windows_off():
    model = load(GOLDEN / "nt_v1", windows=False)
    whole = codes_of("ACGTTG" * 999)
    assert len(model.pieces(whole)) == 1
    with pytest.raises(InputError, match="5,995 letters is longer than the model's context.*2 pieces"):
        model.pieces(codes_of("ACGTTG" * 999 + "A"))
    assert model.fingerprint["window"] != family("nt_v1").fingerprint["window"]
    # Where there is no limit there is nothing to refuse.
    assert len(load(GOLDEN / "resnet_lm", windows=False).pieces(codes_of("ACGT" * 5000))) == 1


def test_caduceus_norms_of_the_kernels(caplog, tmp_path):
    """What Mamba's GPU kernels do, for which there are no reference numbers: the RMS norms of the unfused network."""
    config = json.loads((GOLDEN / "caduceus_ph" / "config.json").read_text())
    shutil.copytree(GOLDEN / "caduceus_ph", tmp_path / "unfused")
    (tmp_path / "unfused" / "config.json").write_text(json.dumps(config | {"fused_add_norm": False}))
    ids = torch.tensor([[7, 8, 9, 10, 7, 7, 9]])
    expected = load(tmp_path / "unfused").hidden(ids)
    assert not caplog.records
    reference = load(GOLDEN / "caduceus_ph").hidden(ids)
    assert "subtract the mean" in caplog.text
    assert "use rules='kernels'" in caplog.text
    caplog.clear()
    model = load(GOLDEN / "caduceus_ph", rules="kernels")
    assert not caplog.records
    torch.testing.assert_close(model.hidden(ids), expected, rtol=0, atol=1e-5)
    assert (model.hidden(ids) - reference).abs().max() > 0.1
    assert model.fingerprint["rules"] == "kernels"
    # The published checkpoint was trained with the kernels: its record says so, and a user can say otherwise.
    assert record("caduceus_ph_131k").rules == "kernels"
    (tmp_path / "mine.toml").write_text(
        f"[mine]\narchitecture = 'caduceus'\ncheckpoint = '{GOLDEN / 'caduceus_ph'}'\nrules = 'kernels'\n"
    )
    torch.testing.assert_close(load(tmp_path / "mine.toml").hidden(ids), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(load(tmp_path / "mine.toml", rules="authors").hidden(ids), reference, rtol=0, atol=0)


def test_grover_with_its_word_pieces(tmp_path):
    """The repository on the hub ships merges in place of a list of words."""
    from tokenizers import Tokenizer, models, processors

    shutil.copytree(GOLDEN / "grover", tmp_path / "grover")
    words = {word: i for i, word in enumerate((GOLDEN / "grover" / "vocab.txt").read_text().split())}
    bpe = Tokenizer(models.BPE(words, [("A", "A"), ("C", "G")], unk_token="[UNK]"))
    bpe.post_processor = processors.BertProcessing(("[SEP]", words["[SEP]"]), ("[CLS]", words["[CLS]"]))
    bpe.save(str(tmp_path / "grover" / "tokenizer.json"))
    model = load(tmp_path / "grover")
    assert model.record["architecture"] == "grover"
    (piece,) = model.pieces(codes_of("AATCG"))
    assert piece.ids.tolist() == [words[word] for word in ("[CLS]", "AA", "T", "CG", "[SEP]")]
    assert piece.span.tolist() == [2, 1, 2]
