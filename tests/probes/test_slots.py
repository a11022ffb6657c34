"""Heads per slot: planted stores with a known answer, spans against loops, heads against scikit-learn."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from residue_tasks import CLASS, CODONS, NAMES, RECORD, coding_sequences, part_of, residue_classes, structure_store
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

import embedstore
from embedstore import tasks
from embedstore.errors import InputError
from embedstore.models.function import function_model
from embedstore.tokenizers.kmer import KmerTokenizer
from probes.dataset import ProbeData
from probes.experiment import run_probe
from probes.linear import LogisticProbe, RidgeProbe
from probes.residues import GENERIC, OFFSETS, SINGLE, count_residues, residue_places, residues_of
from probes.slots import LEAST, SlotProbe, SlotRidgeProbe

QUIET = {"progress": False}


@pytest.fixture(scope="module")
def store():
    return structure_store(coding_sequences(72))


@pytest.fixture(scope="module")
def parts(store):
    return {name: part_of(store, name) for name in ("train", "valid", "A")}


def truth(data: ProbeData) -> np.ndarray:
    return data.targets.of(data.samples).numpy()


def pairs_that_differ(store, data: ProbeData) -> float:
    """The share of residues that share a token with one of another class."""
    residues = differ = 0
    for codes in store.sequences("structure", data.samples):
        own = residue_classes(codes.tobytes().decode())
        residues += len(own)
        differ += 2 * sum(one != other for one, other in zip(own[::2], own[1::2], strict=False))
    return differ / residues


# ---- the planted answer --------------------------------------------------------------------------


@pytest.mark.parametrize(("slotted", "plain"), [(SlotProbe, LogisticProbe), (SlotRidgeProbe, RidgeProbe)])
def test_slot_heads_read_all_and_one_head_half_of_what_differs(store, parts, slotted, plain) -> None:
    probe = slotted(penalties=(1e-5, 1e-3), **QUIET).fit(parts["train"], parts["valid"])
    assert probe.score(parts["A"]) == 1
    assert set(probe.coefficient_) == {"slot 0", "slot 1", "generic"}
    # Weights this small leave the decision to the two classes of the token, of which one head can say only one.
    alone = plain(penalties=(1e-3,), **QUIET).fit(parts["train"], parts["valid"])
    assert alone.score(parts["A"]) == pytest.approx(1 - 0.5 * pairs_that_differ(store, parts["A"]))


def test_one_codon_alone_is_predicted(store, parts) -> None:
    probe = SlotRidgeProbe(**QUIET).fit(parts["train"], parts["valid"])
    one = structure_store(["ACG"], splits=["A"])
    assert probe.predict(part_of(one, "A")).tolist() == [CLASS["ACG"]] * 3


def test_it_runs_as_any_probe_does_and_is_read_again(store, tmp_path) -> None:
    splits = {"train": "train", "valid": "valid", "test": "A"}
    for kind in ("slots", "slots_ridge"):
        options = {"probe": kind, "out": tmp_path, "draws": 10, "splits": splits, "penalties": (1e-4, 1e-3), **QUIET}
        result = run_probe(store, "structure", "planted", **options)
        again = run_probe(store, "structure", "planted", **options)
        assert (result.row["metric"], result.row["test"], result.row["valid"]) == ("accuracy", 1, 1)
        assert result.row == again.row
        assert result.row["parameters"] == 2 * (16 * 8 + 8) + (16 + OFFSETS) * 8 + 8
        test = part_of(store, "A")
        np.testing.assert_array_equal(again.probe.predict(test), result.probe.predict(test))
        assert again.probe.counts_.equals(result.probe.counts_)
        assert (again.probe.penalty_, again.probe.majority_) == (result.probe.penalty_, result.probe.majority_)
        kept = again.probe.history_.iloc[again.probe.best_epoch_ - 1]
        assert (kept["head"], kept["penalty"]) == ("generic", again.probe.penalty_["generic"])
        assert ("ece" in result.row) == (kind == "slots")


# ---- where residues lie --------------------------------------------------------------------------


@given(st.lists(st.integers(1, 13), min_size=1, max_size=12), st.integers(0, 3))
def test_places_are_those_of_a_loop(widths, slots) -> None:
    span = np.array([*widths, -sum(widths) % 3 or 3])
    owner = [number for number, width in enumerate(span) for _ in range(width)]
    begins = [sum(span[:number]) for number in range(len(span))]
    slot, offset = [], []
    for at in range(0, len(owner), 3):
        first, *_, last = own = owner[at : at + 3]
        offset.append(at - begins[first])
        if all(span[row] == 1 for row in own):
            slot.append(SINGLE)
        elif first == last and offset[-1] in range(0, 3 * slots, 3):
            slot.append(offset[-1] // 3)
        else:
            slot.append(GENERIC)
    found = residue_places(span, 3, slots)
    assert (found.slot.tolist(), found.offset.tolist()) == (slot, offset)


@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("ATGGCNAAACCCTGA", [SINGLE, SINGLE, 0, 1, SINGLE]),  # N is the third letter of a codon: frames go on
        ("ATGNCGAAACCCTTT", [SINGLE, GENERIC, GENERIC, GENERIC, SINGLE]),
        ("ATGCNGAAACCCTTTGAA", [SINGLE, GENERIC, GENERIC, GENERIC, GENERIC, GENERIC]),
        ("ATG", [SINGLE]),
        ("ATGGCCAAA", [0, 1, SINGLE]),
        ("ATGGCCAAACCC", [0, 1, 0, 1]),
    ],
)
def test_places_under_the_tokenizer_of_the_nucleotide_transformer(text, slots) -> None:
    from itertools import product

    words = ["<unk>", "<cls>", *map("".join, product("ATCG", repeat=6)), *"ATCGN"]
    span = KmerTokenizer.from_words(words).encode(np.frombuffer(text.encode(), np.uint8)).span
    assert residue_places(span.astype(int), 3, 2).slot.tolist() == slots


def test_features_are_means_of_the_rows_of_three_nucleotides() -> None:
    """Random rows, spans of any length, so that residues lie in one, two or three tokens."""
    rng = np.random.default_rng(0)
    widths = {}

    def spans(texts):
        return [widths.setdefault(text, _tiling(rng, len(text))) for text in texts]

    def encode(texts):
        return [(rng.normal(size=(len(span), 4)).astype(np.float32), span) for span in spans(texts)]

    encode.spans = spans
    made = structure_store(coding_sequences(12), encoder=encode)
    data = part_of(made, "train", "valid", "A", "B")
    for part in (part for parts in data.batches(5) for part in parts):
        found = residues_of(part, RECORD, 2)
        at = 0
        for sample in part.samples:
            rows = made.embedding("structure", "planted").read([sample]).nucleotides().astype(np.float64)
            many = len(rows) // 3
            np.testing.assert_allclose(found.x[at : at + many], rows.reshape(many, 3, 4).mean(axis=1), rtol=1e-6)
            at += many
        assert at == len(found.x) == len(found.label)
    counts = count_residues(data)
    assert counts.loc["generic"].sum() > 5
    assert counts.to_numpy().sum() == data.targets.lengths.sum() // 3


def _tiling(rng, length: int) -> np.ndarray:
    cuts = np.flatnonzero(rng.random(length - 1) < 0.3) + 1
    return np.diff(np.concatenate([[0], cuts, [length]]))


def test_residues_are_counted_by_slot_and_class() -> None:
    made = structure_store(["ATGGCNAAACCC", "ATGGCCAAA"], [[1, 2, 3, 4], [1, -100, 5]], splits=["A", "A"])
    counts = count_residues(part_of(made, "A"))
    assert list(counts.index) == ["slot 0", "slot 1", "generic", "single letters"]
    found = {(slot, name): number for slot, row in counts.iterrows() for name, number in row.items() if number}
    wanted = {("single letters", NAMES[place]): 1 for place in (1, 2, 5)}
    wanted |= {("slot 0", NAMES[3]): 1, ("slot 1", NAMES[4]): 1, ("slot 0", NAMES[1]): 1, ("slot 1", "unlabelled"): 1}
    assert found == wanted


# ---- heads ---------------------------------------------------------------------------------------


def by_slot(data: ProbeData) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """All residues: features, slots, offsets, labels."""
    found = [residues_of(part, data.record, 2) for parts in data.batches(9) for part in parts]
    x, label = (np.concatenate([getattr(one, name) for one in found]) for name in ("x", "label"))
    return x.astype(np.float64), *(np.concatenate([one.places[i] for one in found]) for i in (0, 1)), label


@pytest.fixture(scope="module")
def noisy():
    """Rows with noise, frames shifted behind N: every head has something to do and none is perfect."""
    rng = np.random.default_rng(3)
    sequences = coding_sequences(60, seed=4)
    for place in range(1, 60, 3):
        at = rng.integers(len(sequences[place]))
        sequences[place] = sequences[place][:at] + "N" + sequences[place][at + 1 :]
    from residue_tasks import planted, spans

    def encode(texts):
        return [(rows + rng.normal(0, 0.4, rows.shape).astype(np.float32), span) for rows, span in planted(texts)]

    encode.spans = spans
    made = structure_store(sequences, encoder=encode)
    return {name: part_of(made, name) for name in ("train", "valid", "A")}


@pytest.mark.parametrize("kind", [SlotProbe, SlotRidgeProbe])
def test_each_head_is_that_of_sklearn(kind, noisy) -> None:
    probe = kind(penalties=(0.01,), **QUIET).fit(noisy["train"], noisy["valid"])
    x, slot, offset, label = by_slot(noisy["train"])
    there, its_slot, its_offset, _ = by_slot(noisy["A"])
    assert {0, 1, GENERIC, SINGLE} <= set(slot) & set(its_slot)
    wanted = np.zeros((len(there), 8))
    for head in (0, 1, GENERIC):
        own = np.ones(len(x), bool) if head == GENERIC else np.isin(slot, [0, SINGLE] if head == 0 else [head])
        its = np.isin(its_slot, [0, SINGLE] if head == 0 else [head])
        a, b = x[own], there[its]
        if head == GENERIC:
            a, b = (
                np.hstack([each, np.minimum(at, 11)[:, None] == np.arange(12)])
                for each, at in ((a, offset), (b, its_offset[its]))
            )
            seen = a.std(axis=0) > 0
            a, b = a[:, seen], b[:, seen]
        scaler = StandardScaler().fit(a)
        if kind is SlotProbe:
            model = LogisticRegression(C=1 / (0.01 * len(a)), tol=1e-8, max_iter=5000).fit(
                scaler.transform(a), label[own]
            )
            wanted[its] = model.decision_function(scaler.transform(b))
        else:
            model = Ridge(alpha=0.01 * len(a)).fit(scaler.transform(a), np.eye(8)[label[own]])
            wanted[its] = model.predict(scaler.transform(b))
    found = torch.cat([output for _, output in probe.outputs(noisy["A"])]).numpy().reshape(-1, 3, 8)
    assert (found == found[:, :1]).all()
    np.testing.assert_allclose(found[:, 0], wanted, atol=2e-3 if kind is SlotProbe else 1e-5)


def test_what_is_done_with_single_letters(noisy) -> None:
    probes = {
        tail: SlotRidgeProbe(tail=tail, penalties=(0.01,), **QUIET).fit(noisy["train"])
        for tail in ("slot0", "generic", "drop")
    }
    first = {tail: probe.coefficient_["slot 0"] for tail, probe in probes.items()}
    np.testing.assert_array_equal(first["generic"], first["drop"])
    assert not np.allclose(first["slot0"], first["drop"])
    outputs = {
        tail: torch.cat([o for _, o in probe.outputs(noisy["A"])]).numpy()[::3] for tail, probe in probes.items()
    }
    there, its_slot, its_offset, _ = by_slot(noisy["A"])
    single = its_slot == SINGLE
    np.testing.assert_allclose(
        outputs["drop"][single], there[single] @ first["drop"] + probes["drop"].intercept_["slot 0"], atol=1e-5
    )
    generic = probes["generic"]
    x = np.hstack([there[single], np.eye(OFFSETS)[its_offset[single]]])
    np.testing.assert_allclose(
        outputs["generic"][single], x @ generic.coefficient_["generic"] + generic.intercept_["generic"], atol=1e-5
    )


def test_a_slot_with_too_few_labels_uses_the_generic_head(caplog) -> None:
    sequences = ["".join(CODONS[place : place + 9]) for place in range(24)]
    labels = [residue_classes(text) for text in sequences]
    for own in labels[4:]:
        own[1::2] = [-100] * len(own[1::2])  # the second slot has 4 x 4 labels
    made = structure_store(sequences, labels, splits=["train"] * 23 + ["A"])
    with caplog.at_level(logging.WARNING):
        probe = SlotRidgeProbe(**QUIET).fit(part_of(made, "train"))
    assert set(probe.coefficient_) == {"slot 0", "generic"}
    assert "slot 1: too few labels" in caplog.text
    assert probe.counts_.loc["slot 1", list(NAMES)].sum() < LEAST
    assert len(probe.predict(part_of(made, "A"))) == 27


def test_labels_that_are_all_alike_in_validation_make_no_head(caplog) -> None:
    sequences = ["".join(CODONS[place : place + 12]) for place in range(40)]
    labels = [residue_classes(text) for text in sequences]
    labels[39][1::2] = [2] * 6
    made = structure_store(sequences, labels, splits=["train"] * 39 + ["valid"])
    with caplog.at_level(logging.WARNING):
        probe = SlotProbe(**QUIET).fit(part_of(made, "train"), part_of(made, "valid"))
    assert set(probe.coefficient_) == {"slot 0", "generic"}


def test_proteins_and_codon_models_have_one_head() -> None:
    rng = np.random.default_rng(0)
    letters = "ACDEFGHIKLMNPQRSTVWY"
    proteins = ["".join(rng.choice(list(letters), n)) for n in rng.integers(5, 30, 30)]
    record = dataclasses.replace(RECORD, alphabet="protein")
    task = tasks.from_sequences(
        "structure",
        proteins,
        splits=["train", "valid", "A"] * 10,
        labels=[np.array([letters.index(one) % 8 for one in text]) for text in proteins],
        record=record,
        alphabet="protein",
    )

    def encode(texts):
        return [
            (np.eye(20, dtype=np.float32)[[letters.find(one) for one in text]], np.ones(len(text), int))
            for text in texts
        ]

    encode.alphabet = "protein"
    made = embedstore.open_store("memory://", mode="a")
    made.add_task(task)
    embedstore.embed(made, "structure", function_model("planted", encode, version="1"), progress=False)
    train, valid, test = (part_of(made, name) for name in ("train", "valid", "A"))
    probe = SlotProbe(**QUIET).fit(train, valid)
    assert (list(probe.coefficient_), probe.score(test)) == (["generic"], 1)
    assert probe.counts_.loc["slot 0", list(NAMES)].sum() == probe.counts_.to_numpy().sum() == len(truth(train))
    plain = LogisticProbe(**QUIET).fit(train, valid)
    for (_, one), (_, other) in zip(probe.outputs(test), plain.outputs(test), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_no_slots_leave_the_generic_head_alone(parts) -> None:
    probe = SlotRidgeProbe(slots=0, **QUIET).fit(parts["train"])
    assert list(probe.coefficient_) == ["generic"]
    assert probe.score(parts["A"]) < 0.8


# ---- bad input -----------------------------------------------------------------------------------


def test_what_has_no_class_for_each_residue_is_refused(parts) -> None:
    train = parts["train"]
    lengths = train.targets.lengths
    for level, kind, metric in (("sequence", "class", "mcc"), ("nucleotide", "value", "r2")):
        record = dataclasses.replace(
            RECORD, level=level, type=kind, metric=metric, names=NAMES if kind == "class" else ()
        )
        with pytest.raises(
            InputError, match=f"level '{level}' and type '{kind}'; slots are for a class of each residue"
        ):
            SlotProbe().check_fits(record, 8, 16, lengths)
    with pytest.raises(InputError, match=r"sample 1 has 1,000 nucleotides, which are no whole codons \(1 samples"):
        SlotProbe().check_fits(RECORD, 8, 16, np.array([3, 1000]))
    with pytest.raises(InputError, match="slots is -1; it must be a whole number, 0 or more"):
        SlotProbe(slots=-1).fit(train)
    with pytest.raises(InputError, match="tail is 'slots0'; .* Did you mean 'slot0'"):
        SlotProbe(tail="slots0").fit(train)
    with pytest.raises(InputError, match="share 36 samples"):
        SlotProbe().fit(train, train)


def test_letters_of_a_residue_have_one_label() -> None:
    sequences = ["ATGGCC", "AAACCCGGG"]
    made = structure_store(sequences, splits=["train", "train"])
    record, rows = made.record("structure"), made.embedding("structure", "planted").read([0, 1])
    values = made.labels("structure").values.copy()
    values[10] += 1
    data = ProbeData.from_rows(rows, dataclasses.replace(made.labels("structure"), values=values), record)
    with pytest.raises(InputError, match=r"sample 1, residue 1: its 3 letters have the labels \[5, 6, 5\]"):
        SlotProbe(**QUIET).fit(data)


def test_tokens_that_were_stored_for_each_nucleotide_are_refused() -> None:
    sequences = coding_sequences(12)
    made = structure_store(sequences, resolution="nucleotide")
    with pytest.raises(InputError, match=r"have the very row of the residue before them.*--resolution token"):
        SlotProbe(**QUIET).fit(part_of(made, "train"))


def test_rows_of_a_model_of_nucleotides_are_single_letters() -> None:
    """One-hot letters repeat by chance; that is no reason to refuse them."""
    store = structure_store(coding_sequences(30))
    data = ProbeData.from_store(store, "structure", "onehot", "train", progress=False)
    counts = count_residues(data)
    assert counts.loc["single letters"].sum() == counts.to_numpy().sum() > 100
    probe = SlotRidgeProbe(**QUIET).fit(data)
    assert list(probe.coefficient_) == ["generic"]
