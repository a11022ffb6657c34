"""Model records: the published ones against other sources, and those of users."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from embedstore.cli import main
from embedstore.errors import InputError
from embedstore.models import records as records_of_package
from embedstore.models.records import (
    COMMIT,
    HUB_NAME,
    ModelRecord,
    function_record,
    installed,
    record,
    records,
    summary,
)

GOLDEN = Path(__file__).parents[1] / "golden"

# width, layers: facts of the publications and of BEND's configuration, written down apart from models.toml
SIZES = {
    **dict.fromkeys(("nt_500m_human_ref", "nt_500m_1000g"), (1280, 24)),
    **dict.fromkeys(("nt_2b5_1000g", "nt_2b5_multi_species"), (2560, 32)),
    "nt_v2_50m_multi_species": (512, 12),
    "nt_v2_50m_3mer": (512, 12),
    "nt_v2_100m_multi_species": (512, 22),
    "nt_v2_250m_multi_species": (768, 24),
    "nt_v2_500m_multi_species": (1024, 29),
    **dict.fromkeys(("dnabert3", "dnabert4", "dnabert5", "dnabert6", "dnabert2", "grover", "calm"), (768, 12)),
    **dict.fromkeys([f"gena_bert_base{kind}" for kind in ("", "_t2t", "_lastln_t2t", "_t2t_multi")], (768, 12)),
    "gena_bert_large_t2t": (1024, 24),
    "gena_bigbird_base_t2t": (768, 12),
    "moderngena_base": (0, 22),
    "moderngena_large": (1024, 28),
    "hyenadna_tiny_1k": (128, 2),
    "hyenadna_tiny_1k_d256": (256, 2),
    "hyenadna_small_32k": (256, 4),
    **dict.fromkeys(("hyenadna_medium_160k", "hyenadna_medium_450k", "hyenadna_large_1m"), (256, 8)),
    "caduceus_ph_131k": (256, 16),
    "caduceus_ps_131k": (512, 16),
    "resnet_lm": (0, 0),
    "awd_lstm": (0, 0),
    "onehot": (4, 0),
    "esm1b_650m": (1280, 33),
    "esm2_8m": (320, 6),
    "esm2_35m": (480, 12),
    "esm2_150m": (640, 30),
    "esm2_650m": (1280, 33),
    "esm2_3b": (2560, 36),
    "esm2_15b": (5120, 48),
    "esmc_300m": (960, 30),
    "esmc_600m": (1152, 36),
    "esmc_6b": (2560, 80),
    "prott5_xl": (1024, 24),
}

# conf/embedding/embed.yaml of BEND at commit ac6e80c: its checkpoints on the hub
BEND = {
    "AIRI-Institute/gena-lm-bigbird-base-t2t",
    "AIRI-Institute/gena-lm-bert-large-t2t",
    "InstaDeepAI/nucleotide-transformer-2.5b-multi-species",
    "InstaDeepAI/nucleotide-transformer-500m-human-ref",
    "InstaDeepAI/nucleotide-transformer-2.5b-1000g",
    "InstaDeepAI/nucleotide-transformer-v2-500m-multi-species",
    "zhihan1996/DNABERT-2-117M",
    *(
        f"LongSafari/hyenadna-{size}-seqlen-hf"
        for size in ("tiny-1k", "small-32k", "medium-160k", "medium-450k", "large-1m")
    ),
}

# golden folders of a family, and models of it
FAMILIES = {
    "nt_v1": "nt_500m_human_ref",
    "nt_v2": "nt_v2_500m_multi_species",
    "dnabert": "dnabert6",
    "dnabert2": "dnabert2",
    "grover": "grover",
    "gena_bert_last_ln": "gena_bert_base_lastln_t2t",
    "gena_bigbird": "gena_bigbird_base_t2t",
    "modernbert": "moderngena_large",
    "hyenadna": "hyenadna_tiny_1k",
    "caduceus_ph": "caduceus_ph_131k",
    "caduceus_ps": "caduceus_ps_131k",
    "resnet_lm": "resnet_lm",
    "awd_lstm": "awd_lstm",
    "calm": "calm",
    "esm1b": "esm1b_650m",
    "esm2": "esm2_650m",
    "esmc": "esmc_600m",
    "prott5": "prott5_xl",
}


# ---- published models ----------------------------------------------------------------------------


def test_sizes_are_those_of_the_publications():
    assert {name: (one.width, one.layers) for name, one in records().items()} == SIZES
    assert records_of_package() is records()


def test_every_model_of_bend_is_there():
    assert {one.hub for one in records().values()} >= BEND
    assert {"resnet_lm", "awd_lstm", "dnabert6", "grover", "onehot"} <= set(records())


@pytest.mark.parametrize("name", sorted(SIZES))
def test_fields_have_their_form(name):
    one = records()[name]
    assert one.id == name
    assert not one.hub or HUB_NAME.fullmatch(one.hub)
    assert not one.revision or COMMIT.fullmatch(one.revision)
    assert (one.checkpoint, one.title[:1].isupper(), one.tokenizer != "") == ("", True, True)
    assert bool(one.stride) != bool(one.mean_stride)
    assert re.fullmatch(r"(\d+(\.\d+)?[MB])?", one.parameters)
    assert "\n" not in one.note
    assert one.paper or name == "onehot"
    assert json.loads(json.dumps(one.to_dict())) == one.to_dict()
    for field in fields(ModelRecord):
        assert type(getattr(one, field.name)).__name__ == field.type


def test_repositories_and_titles_are_different():
    for of in ("hub", "title"):
        values = [getattr(one, of) for one in records().values() if getattr(one, of)]
        assert len(set(values)) == len(values)


def test_architectures_are_those_that_can_be_run():
    from embedstore.models.architectures import ARCHITECTURES

    assert {one.architecture for one in records().values()} - {"onehot"} == set(ARCHITECTURES)


@pytest.mark.parametrize("family", FAMILIES)
def test_dropped_rows_and_stride_are_those_of_the_reference(family):
    one = records()[FAMILIES[family]]
    cases = json.loads((GOLDEN / family / "cases.json").read_text())["cases"]
    case = next(case["id"] for case in cases if case["id"] == "short")
    with np.load(GOLDEN / family / "cases.npz") as arrays:
        special, spans = arrays[f"{case}/special"], arrays[f"{case}/spans"]
    ends = {(False, False): "none", (True, False): "first", (False, True): "last", (True, True): "first and last"}
    assert ends[bool(special[0]), bool(special[-1])] == one.drop
    assert not special[1:-1].any()
    # Rows of an average length are those of words; DNABERT's words overlap, so a row is where a word begins.
    step = np.diff(spans[:, 0])[0]
    assert (one.stride == step) if one.stride else (spans[:, 1] - spans[:, 0]).std() > 0


def whole(family, letters):
    """Whether a golden checkpoint, which has the published number of positions, takes an input in one piece."""
    from embedstore.models.architectures import ARCHITECTURES
    from embedstore.models.checkpoints import read_checkpoint

    spec = ARCHITECTURES[records()[FAMILIES[family]].architecture]
    tokenizer = spec.tokenizer(GOLDEN / family)
    pieces = spec.window_rule(tokenizer, read_checkpoint(GOLDEN / family)).cut(letters)
    return len(pieces) == 1 and tuple(pieces[0].ids[len(pieces[0].ids) - len(tokenizer.suffix) :]) == tokenizer.suffix


@pytest.mark.parametrize(
    "family", ["nt_v1", "nt_v2", "dnabert", "dnabert2", "calm", "hyenadna", "caduceus_ph", "esm1b", "esm2"]
)
def test_context_is_the_longest_input_in_one_piece(family):
    context, step = records()[FAMILIES[family]].context, 3 if family == "calm" else 1
    letters = np.frombuffer(b"ACGT" * (context // 4 + 2), np.uint8)
    assert whole(family, letters[:context])
    assert not whole(family, letters[: context + step])


def test_contexts_of_the_other_sizes():
    for k in (3, 4, 5, 6):  # 510 words between [CLS] and [SEP]
        assert records()[f"dnabert{k}"].context == 510 + k - 1
    assert records()["nt_v2_50m_3mer"].context == 2047 * 3
    assert records()["hyenadna_large_1m"].context == 10**6


def test_bytes_per_megabase():
    # README of the store: a token of NT v2 500M is 1,024 channels of two bytes for six letters
    assert records()["nt_v2_500m_multi_species"].bytes_per_megabase == round(10**6 * 1024 * 2 / 6)
    assert records()["hyenadna_large_1m"].bytes_per_megabase == 512_000_000
    assert records()["calm"].bytes_per_megabase == 512_000_000
    assert records()["gena_bert_large_t2t"].bytes_per_megabase == pytest.approx(2.28e8, rel=0.01)
    assert records()["onehot"].bytes_per_megabase == 0  # computed as it is read
    assert records()["resnet_lm"].bytes_per_megabase == 0  # the checkpoint decides
    assert ModelRecord(id="x", architecture="esm", width=8).bytes_per_megabase == 0


def test_summary():
    assert summary(records()["nt_v2_50m_3mer"]) == {
        "id": "nt_v2_50m_3mer",
        "architecture": "nucleotide_transformer",
        "stride": "3",
        "context": "6,141",
        "width": "512",
        "layers": "12",
        "params": "52M",
        "per Mb": "325.5 MiB",
        "licence": "CC-BY-NC-SA-4.0",
    }
    empty = summary(ModelRecord(id="x", architecture="function"))
    assert list(empty.values()) == ["x", "function", *["-"] * 7]


# ---- the command ---------------------------------------------------------------------------------


def test_the_table_of_the_command(capsys):
    assert main(["models"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "id",
        "architecture",
        "stride",
        "context",
        "width",
        "layers",
        "params",
        "per",
        "Mb",
        "licence",
    ]
    assert [line.split()[0] for line in lines] == [*records(), *installed()]
    assert max(map(len, [head, *lines])) <= 120
    for line in lines:  # numbers end where the word above them ends
        for name in ("stride", "context", "width", "layers", "params", "per Mb"):
            end = head.index(name) + len(name)
            assert line[end - 1] != " "
            assert line[end : end + 2].strip() == ""


def test_one_model_field_by_field(capsys):
    assert main(["models", "dnabert6"]) == 0
    shown = capsys.readouterr().out
    for field in fields(ModelRecord):
        value = getattr(records()["dnabert6"], field.name)
        line = re.search(rf"^{field.name.replace('_', ' ')} *{re.escape(str(value))}$", shown, re.MULTILINE)
        # What is not known is left out, but for a revision that the user must give.
        assert bool(line) is (bool(value) or field.name == "revision")
    assert re.search(r"^bytes per megabase +1536000000$", shown, re.MULTILINE)
    assert main(["models", "dnabert7"]) == 1
    assert "No model is called 'dnabert7'. Did you mean 'dnabert6'?" in capsys.readouterr().err


def test_json_of_the_command(capsys):
    assert main(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    shown = [*records().values(), *map(function_record, installed().values())]
    wanted = [one.to_dict() | {"bytes_per_megabase": one.bytes_per_megabase} for one in shown]
    assert found == wanted
    assert main(["models", "calm", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == next(one for one in wanted if one["id"] == "calm")


# ---- a user's own record -------------------------------------------------------------------------


@pytest.fixture
def write(tmp_path):
    (tmp_path / "weights").mkdir()

    def write_(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return path

    return write_


LEAST = '[mine]\narchitecture = "nucleotide_transformer"\n'
LOCAL = LEAST + 'checkpoint = "weights"\n'
HUB = LEAST + f'hub = "me/mine"\nrevision = "{"0a" * 20}"\n'


def test_a_local_checkpoint(write, tmp_path, monkeypatch, capsys):
    path = write(LOCAL)
    one = record(path)
    shared = {name: getattr(record("nt_500m_1000g"), name) for name in ("architecture", "tokenizer", "stride", "drop")}
    assert one == ModelRecord(id="mine", checkpoint=str(tmp_path / "weights"), **shared)
    monkeypatch.chdir(tmp_path.parent)
    assert record(f"{tmp_path.name}/mine.toml") == one
    assert main(["models", str(path)]) == 0
    assert re.search(r"weights\ntokenizer +6-mers\n", capsys.readouterr().out)


def test_a_hub_repository_and_every_field(write):
    more = (
        'title = "Mine"\ntokenizer = "3-mers"\nalphabet = "protein"\nstride = 3\nmean_stride = 2\ncontext = 600\n'
        'width = 8\nlayers = 2\nparameters = 1200\ndrop = "none"\nlicence = "MIT"\npaper = "none"\nnote = "small"\n'
    )
    assert record(write(HUB + more)) == ModelRecord(
        id="mine", title="Mine", architecture="nucleotide_transformer", hub="me/mine", revision="0a" * 20,
        tokenizer="3-mers", alphabet="protein", stride=3, mean_stride=2.0, context=600, width=8, layers=2,
        parameters="1200", drop="none", licence="MIT", paper="none", note="small",
    )  # fmt: skip
    assert record(write(HUB + 'parameters = "1.2k"\n')).parameters == "1.2k"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[mine\n", "is not TOML: "),
        ("", r"found 0 tables; wanted one table, named like the model: \[my_model\]"),
        (LOCAL + "[other]\n", "found 2 tables"),
        ('title = "x"\n' + LOCAL, "found title outside of a table"),
        ('title = "x"\n', "found title outside of a table"),
        (LOCAL.replace("[mine]", '["a b"]'), "'a b' cannot be the name of a model"),
        ('[mine]\ncheckpoint = "weights"\n', "architecture is missing; wanted one of convnet, .*esm"),
        (
            LOCAL.replace("nucleotide_", "nucleotid_"),
            "architecture is 'nucleotid_transformer'; .*mean 'nucleotide_trans",
        ),
        (LOCAL.replace("nucleotide_transformer", "onehot"), "architecture is 'onehot'; wanted one of"),
        (LOCAL.replace("nucleotide_transformer", "function"), "architecture is 'function'; wanted one of"),
        (LOCAL.replace('"nucleotide_transformer"', "3"), "architecture is 3; wanted a text"),
        (LEAST, "found neither of checkpoint and hub; wanted one of them"),
        (LOCAL + 'hub = "a/b"\n', "found both of checkpoint and hub"),
        (LOCAL.replace("weights", "weihgts"), "checkpoint is 'weihgts'; wanted a folder, and there is no .*weihgts"),
        (LOCAL + f'revision = "{"0a" * 20}"\n', "found revision beside checkpoint"),
        (HUB.replace("me/mine", "mine"), "hub is 'mine'; wanted 'organisation/name'"),
        (LEAST + 'hub = "me/mine"\n', "revision is ''; wanted the commit of me/mine to use, 40 hexadecimal"),
        (HUB.replace("0a" * 20, "main"), "revision is 'main'"),
        (LOCAL + 'licens = "MIT"\n', "unknown field 'licens'. Did you mean 'licence'"),
        (LOCAL + 'id = "x"\n', "unknown field 'id'"),
        (LOCAL + 'drop = "both"\n', "drop is 'both'; wanted one of none, first, last, first and last"),
        (LOCAL + 'alphabet = "rna"\n', "alphabet is 'rna'; wanted one of dna, protein"),
        (LOCAL + "alphabet = []\n", r"alphabet is \[\]"),
        (LOCAL + "title = 3\n", "title is 3; wanted a text"),
        (LOCAL + 'width = "8"\n', "width is '8'; wanted a whole number, 0 or more"),
        (LOCAL + "width = 8.0\n", "width is 8.0; wanted a whole number"),
        (LOCAL + "layers = -1\n", "layers is -1; wanted a whole number, 0 or more"),
        (LOCAL + "stride = true\n", "stride is True; wanted a whole number"),
        (LOCAL + "mean_stride = -0.5\n", "mean_stride is -0.5; wanted a number, 0 or more"),
        (LOCAL + "mean_stride = nan\n", "mean_stride is nan"),
        (LOCAL + "parameters = true\n", "parameters is True; wanted a text"),
        (LOCAL + "checkpoint = 3\n".replace("checkpoint", "hub"), "hub is 3; wanted a text"),
    ],
)
def test_faults_of_a_record_name_the_file(write, text, message):
    path = write(text)
    with pytest.raises(InputError, match=message) as caught:
        record(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(InputError, match=r"nothing.toml: cannot be read"):
        record(tmp_path / "nothing.toml")
    (tmp_path / "latin.toml").write_bytes(b"[m\xe9]")
    with pytest.raises(InputError, match=r"latin.toml: cannot be read"):
        record(tmp_path / "latin.toml")
    with pytest.raises(InputError, match=r"No model is called 'esm2_8mm'. Did you mean 'esm2_8m'\?.*\.toml"):
        record("esm2_8mm")
