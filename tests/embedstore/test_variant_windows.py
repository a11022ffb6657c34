"""Windows around variants: the letters of the genome with the change put in; pairs stand for one place."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from embedstore import open_store
from embedstore.errors import CorruptError, FingerprintError, InputError
from embedstore.genome import Genome
from embedstore.variants.aligned import aligned_positions, variant_positions
from embedstore.variants.windows import variant_task

SIZES = {"a": 400, "b": 37, "c": 90}
COMPLEMENT = str.maketrans("ACGTN", "TGCAN")


@pytest.fixture(scope="module")
def letters():
    rng = np.random.default_rng(3)
    return {name: "".join(rng.choice(list("ACGT"), size)) for name, size in SIZES.items()}


@pytest.fixture(scope="module")
def genome(tmp_path_factory, letters):
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in letters.items()))
    with Genome(path) as opened:
        yield opened


def checked(rows):
    """A table as check_variants gives it, of (chromosome, start, removed, added)."""
    table = pd.DataFrame(rows, columns=["chromosome", "start", "removed", "added"])
    return table.assign(position=table["start"], ref=table["removed"], alt=table["added"], reason="", kind="")


@st.composite
def changes(draw):
    rng = np.random.default_rng(3)
    texts = {name: "".join(rng.choice(list("ACGT"), size)) for name, size in SIZES.items()}
    found = []
    for _ in range(draw(st.integers(1, 6))):
        name = draw(st.sampled_from(list(SIZES)))
        start = draw(st.integers(0, SIZES[name] - 1))
        removed = texts[name][start : start + draw(st.integers(0, 4))]
        added = draw(st.text("ACGT", max_size=4))
        if not removed and not added:
            added = "A"
        found.append((name, start, removed, added))
    return found


def haplotypes(letters, row):
    """Both alleles of a whole chromosome, as text."""
    text = letters[row.chromosome]
    return text, text[: row.start] + row.added + text[row.start + len(row.removed) :]


def turned(text):
    return text.translate(COMPLEMENT)[::-1]


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=changes(),
    context=st.integers(4, 60),
    frame=st.integers(0, 5),
    stride=st.integers(1, 4),
    strand=st.sampled_from("+-"),
    edges=st.sampled_from(["shift", "pad"]),
)
def test_centred_windows_are_cut_from_the_two_haplotypes(genome, letters, rows, context, frame, stride, strand, edges):
    frame = min(frame, context - 1 - (stride - 1) // 2)
    options = {"context": context, "frame": frame, "stride": stride, "strand": strand, "edges": edges}
    # One that always fits, so that there is a task.
    rows = [*rows, ("a", 200, letters["a"][200], "ACGT"["ACGT".index(letters["a"][200]) - 1])]
    task = variant_task(checked(rows), genome, **options)
    sequences = [codes.tobytes().decode() for codes in task.sequences(0, len(task.samples))]
    assert len(set(zip(task.samples["id"], sequences, strict=True))) == len(sequences)
    assert [len(text) for text in sequences] == task.samples["length"].tolist()
    for row in task.variants.itertuples():
        if row.reason:
            long = max(len(row.removed), len(row.added)) > context // 2
            past = row.start + len(row.removed) > row.window_end or row.start < row.window_start
            assert long or past
            assert (row.reference, row.alternate, row.offset) == (-1, -1, -1)
            continue
        plain, changed = haplotypes(letters, row)
        begin, end = row.window_start, row.window_end
        pad = 100
        plain, changed = ("N" * pad + text + "N" * pad for text in (plain, changed))
        grown = len(row.added) - len(row.removed)
        expected = [plain[pad + begin : pad + end], changed[pad + begin : pad + end + grown]]
        if strand == "-":
            expected = [turned(text) for text in expected]
        assert [sequences[row.reference], sequences[row.alternate]] == expected
        if edges == "shift":
            assert 0 <= begin < end <= SIZES[row.chromosome]
            assert end - begin == min(2 * context, SIZES[row.chromosome])
        else:
            assert end - begin == 2 * context
        assert begin <= row.start <= end
        assert row.window_n == expected[0].count("N")
        inside = begin > 0 and end + frame < SIZES[row.chromosome]
        if inside and strand == "+":
            early = abs(row.offset - context - frame) <= stride // 2
            # Where the chromosome begins there is no room for an earlier window.
            assert early or (begin < 2 * frame and edges == "shift")
            assert expected[0][row.offset : row.offset + len(row.removed)] == row.removed
            assert expected[1][row.offset : row.offset + len(row.added)] == row.added


def snvs(letters, name, places):
    """The letter at each place changed."""
    return checked([(name, p, letters[name][p], "ACGT"["ACGT".index(letters[name][p]) - 1]) for p in places])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.data(),
    name=st.sampled_from(list(SIZES)),
    context=st.integers(8, 60),
    word=st.integers(1, 7),
    strand=st.sampled_from("+-"),
    edges=st.sampled_from(["shift", "pad"]),
)
def test_in_shared_windows_variants_keep_their_places_in_words(
    genome, letters, data, name, context, word, strand, edges
):
    stride = data.draw(st.integers(1, context))
    room = context - 1 - (stride // 2 + word) * (stride > 1)
    assume(room >= 0)
    frame = data.draw(st.integers(0, min(6, room)))
    table = snvs(letters, name, range(SIZES[name]))
    options = {"context": context, "frame": frame, "word": word, "strand": strand, "edges": edges}
    own = variant_task(table, genome, **options).variants
    shared = variant_task(table, genome, stride=stride, **options).variants
    # Only an earlier window at the end of a chromosome leaves variants out.
    out = own["reason"] != ""
    assert not (out & ((own["start"] < SIZES[name] - frame) | (edges == "pad"))).any()
    assert (own["reason"] == shared["reason"]).all()
    own, shared = own[~out], shared[~out]
    moved = shared["window_start"] - own["window_start"]
    assert (moved % word == 0).all()
    # Where a chromosome begins, one of the two may begin so much later as the other does earlier.
    begins = (edges == "shift") & (np.minimum(own["window_start"], shared["window_start"]) < 2 * max(frame, word))
    assert (abs(moved) < stride / 2 + word + 2 * frame * begins).all()
    length = shared["window_end"] - shared["window_start"]
    assert shared["offset"].between(0, length - 1).all()
    if edges == "pad":
        assert (length == 2 * context).all()
    else:
        assert (length == min(2 * context, SIZES[name])).all()
        assert (shared["window_start"] >= 0).all()
        assert (shared["window_end"] <= SIZES[name]).all()
    if not frame:
        keys = pd.DataFrame({"stretch": own["start"] // stride, "place": own["window_start"] % word})
        windows = keys.assign(begin=shared["window_start"]).drop_duplicates()
        assert len(windows) == len(keys.drop_duplicates())


@pytest.mark.parametrize("stride", [1, 5, 16, 60])
@pytest.mark.parametrize("word", [1, 3, 6])
def test_frames_put_every_variant_at_every_place_of_its_word(genome, letters, stride, word):
    table = snvs(letters, "a", range(word - 1, SIZES["a"] - word + 1))
    tasks = [variant_task(table, genome, context=60, frame=f, stride=stride, word=word) for f in range(word)]
    places = np.stack([task.variants["offset"] % word for task in tasks])
    np.testing.assert_array_equal(np.sort(places, axis=0), np.repeat(np.arange(word)[:, None], len(table), 1))


def test_a_stretch_has_a_window_for_each_place_in_a_word(genome, letters):
    table = snvs(letters, "a", range(128, 256))
    for word, windows in ((1, 2), (4, 8), (6, 12)):
        task = variant_task(table, genome, context=100, stride=64, word=word)
        assert task.variants["reference"].nunique() == windows
        assert task.source["word"] == word
        off = (task.variants["offset"] - 100).to_numpy()
        assert abs(off).max() == 32 // word * word
        assert set(off % word) == {0}


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=changes(), around=st.integers(0, 3), strand=st.sampled_from("+-"), context=st.integers(8, 40))
def test_pairs_stand_for_the_same_place(genome, letters, rows, around, strand, context):
    """Each nucleotide of the two haplotypes is numbered by its place on the genome, by the test itself."""
    task = variant_task(checked(rows), genome, context=context, strand=strand)
    lengths = task.samples["length"].to_numpy()
    pairs = aligned_positions(task.variants, lengths, around=around)
    assert (np.diff(pairs.variant) >= 0).all()
    for number, row in enumerate(task.variants.itertuples()):
        here = pairs.variant == number
        one, other = pairs.reference[here].tolist(), pairs.alternate[here].tolist()
        left = list(range(row.window_start, row.start))
        right = list(range(row.start + len(row.removed), row.window_end))
        same = len(row.removed) == len(row.added)
        inner = [("allele", k) for k in range(len(row.removed))]
        of_reference = left + inner + right
        of_alternate = left + (inner if same else [("new", k) for k in range(len(row.added))]) + right
        flank = around if same else max(around, 1)
        wanted = left[max(len(left) - flank, 0) :] + (inner if same else []) + right[:flank]
        if strand == "-":
            of_reference, of_alternate, wanted = of_reference[::-1], of_alternate[::-1], wanted[::-1]
        assert one == [of_reference.index(place) for place in wanted]
        assert other == [of_alternate.index(place) for place in wanted]


def test_variants_of_one_window_share_it(genome, letters):
    text = letters["a"]
    rows = [("a", place, text[place], letter) for place in (200, 201) for letter in "ACGT" if letter != text[place]]
    one = variant_task(checked(rows), genome, context=50)
    assert len(one.samples) == 2 + 6
    assert one.variants["reference"].nunique() == 2
    assert one.samples["allele"].tolist() == (["ref"] + ["alt"] * 3) * 2
    shared = variant_task(checked(rows), genome, context=50, stride=4)
    assert len(shared.samples) == 1 + 6
    twice = variant_task(checked([rows[0], rows[1], rows[0]]), genome, context=50)
    assert len(twice.samples) == 3
    assert twice.variants["alternate"].tolist()[0] == twice.variants["alternate"].tolist()[2]


@pytest.mark.parametrize("strand", ["+", "-"])
def test_left_windows_end_with_the_variant(genome, letters, strand):
    text = letters["a"]
    other = {letter: "ACGT"["ACGT".index(letter) - 1] for letter in "ACGT"}
    two = other[text[200]] + other[text[201]]
    rows = [("a", 200, text[200:202], two), ("a", 3, text[3], other[text[3]]), ("a", 50, "", "TT")]
    task = variant_task(checked(rows), genome, context=60, window="left", strand=strand)
    sequences = [codes.tobytes().decode() for codes in task.sequences(0, len(task.samples))]
    pair, near, insertion = task.variants.itertuples()
    if strand == "+":
        assert sequences[pair.reference] == text[142:202]
        assert sequences[pair.alternate] == text[142:200] + two
        assert sequences[near.reference] == text[:4]
        assert near.offset == 3
    else:
        assert sequences[pair.reference] == turned(text[200:260])
        assert sequences[pair.alternate] == turned(two + text[202:260])
    assert pair.offset == 58
    assert "no aligned nucleotide" in insertion.reason
    assert insertion.reference == -1


def test_the_slip_of_bends_script(genome, letters):
    """`scripts/predict_variant_effects.py:82-87`: the window ends before the variant."""
    text = letters["a"]
    alternate = "ACGT"["ACGT".index(text[200]) - 1]
    first = "ACGT"["ACGT".index(text[0]) - 1]
    rows = [("a", 200, text[200], alternate), ("a", 0, text[0], first)]
    task = variant_task(checked(rows), genome, context=60, window="bend_left")
    sequences = [codes.tobytes().decode() for codes in task.sequences(0, len(task.samples))]
    row, before = task.variants.itertuples()
    assert sequences[row.reference] == text[140:200]
    assert sequences[row.alternate] == text[140:199] + alternate
    assert row.offset == 59
    assert before.reason == "no nucleotide of the chromosome is before the variant"


def test_masked_and_reference_windows_are_of_single_nucleotides(genome, letters):
    text = letters["a"]
    other = "ACGT"["ACGT".index(text[200]) - 1]
    third = next(letter for letter in "ACGT" if letter not in (text[200], other))
    rows = [("a", 200, text[200], other), ("a", 200, text[200], third), ("a", 100, text[100:102], "")]
    masked = variant_task(checked(rows), genome, context=30, alleles="masked")
    (sequence,) = [codes.tobytes().decode() for codes in masked.sequences(0, 1)]
    assert sequence == text[170:200] + "N" + text[201:230]
    assert masked.samples["allele"].tolist() == ["masked"]
    assert masked.samples["offset"].tolist() == [30]
    assert masked.variants["reference"].tolist() == [0, 0, -1]
    assert masked.variants["alternate"].tolist() == [-1, -1, -1]
    assert masked.variants["reason"].tolist() == ["", "", "only single nucleotides have this score"]
    plain = variant_task(checked(rows), genome, context=30, alleles="reference")
    assert plain.sequences(0, 1)[0].tobytes().decode() == text[170:230]


def test_letters_that_the_genome_refuses_and_n_are_said(tmp_path):
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list("ACGT"), 300))
    text = text[:50] + "R" + text[51:200] + "NNN" + text[203:]
    (tmp_path / "g.fa").write_text(f">a\n{text}\n")
    places = [60, 120, 190]
    rows = [("a", p, text[p], "ACGT"["ACGT".index(text[p]) - 1]) for p in places]
    task = variant_task(checked(rows), Genome(tmp_path / "g.fa"), context=20)
    assert "refused" in task.variants["reason"][0]
    assert "'R'" in task.variants["reason"][0]
    assert task.variants["reason"].tolist()[1:] == ["", ""]
    assert task.variants["window_n"].tolist() == [-1, 0, 3]
    read = variant_task(checked(rows), Genome(tmp_path / "g.fa", other_letters="N"), context=20)
    assert read.variants["window_n"].tolist() == [1, 0, 3]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"context": 0}, "context is 0; it must be 1 or more"),
        ({"window": "right"}, "window is 'right'; it must be one of centred, left, bend_left"),
        ({"alleles": "alt"}, "alleles is 'alt'"),
        ({"strand": "."}, "strand is '.'"),
        ({"edges": "cut"}, "edges is 'cut'"),
        ({"frame": -1}, "frame is -1"),
        ({"frame": 9, "context": 9}, "frame is 9; it must be below 9"),
        ({"stride": 0}, "stride is 0; it must be 1 to 256"),
        ({"word": 0}, "word is 0; it must be 1 or more"),
        (
            {"frame": 6, "stride": 12, "word": 6, "context": 12},
            "with context 12 some variants are not in their windows",
        ),
        ({"frame": 3, "stride": 3, "context": 4}, "with context 4 some variants are not in their windows"),
        ({"window": "left", "stride": 2}, "frame and stride are for window='centred'"),
        ({"window": "bend_left", "strand": "-"}, "knows neither strands nor masks"),
    ],
)
def test_choices_that_are_none_are_refused(genome, letters, options, said):
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        variant_task(checked([("a", 5, letters["a"][5], "A")]), genome, **options)


def test_the_window_of_a_variant_whose_place_is_not_known_is_not_known(genome, letters):
    ref = letters["a"][5]
    alt = "A" if ref != "A" else "C"
    table = pd.DataFrame({"chromosome": "a", "position": 5, "ref": ref, "alt": ["<DEL>", alt]})
    task = variant_task(table, genome, context=9)
    places = task.variants[["start", "window_start", "window_end", "window_n", "offset"]]
    assert places.loc[0].tolist() == [-1] * 5
    assert places.loc[1, "window_end"] == 18


def test_nothing_to_score_is_an_error_that_counts_the_reasons(genome):
    table = checked([("a", 5, "A", "C"), ("a", 9, "A", "C")]).assign(reason=["one", "one"])
    with pytest.raises(InputError, match="None of 2 variants can be scored: 2: one"):
        variant_task(table, genome)


# ---- in a store ----------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path, genome, letters):
    text = letters["a"]
    rows = [("a", p, text[p], "ACGT"["ACGT".index(text[p]) - 1]) for p in (300, 100, 100, 200)]
    table = checked([*rows, ("b", 20, letters["b"][20:22], "")])
    table = table.assign(
        label=[1, 0, 0, 1, np.nan], flag=[True, False, True, False, True], note=["x", None, "", "y", "z"],
        count=pd.array([1, None, 3, 4, 5], dtype="Int64"),
    )  # fmt: skip
    task = variant_task(table, genome, context=40)
    store = open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(task)
    return store, task


def test_the_table_of_variants_comes_back_in_the_order_of_the_input(stored):
    store, task = stored
    back = open_store(store.path).variants("variants")
    pd.testing.assert_frame_equal(back, task.variants)
    assert back["start"].tolist() == [300, 100, 100, 200, 20]
    assert back["note"].tolist() == ["x", "", "", "y", "z"]
    assert np.isnan(back["count"][1])
    assert back["flag"].dtype == bool
    store.add_task(task)  # the same again changes nothing
    assert store.verify().sound


def test_other_variants_under_the_same_name_are_refused(stored, genome):
    store, task = stored
    other = task.variants[["chromosome", "start", "removed", "added", "position", "ref", "alt", "reason"]]
    with pytest.raises(FingerprintError, match="variants: stored"):
        store.add_task(variant_task(other, genome, context=40))


def test_windows_shared_for_words_of_another_length_are_refused(tmp_path, genome, letters):
    store = open_store(tmp_path / "s.zarr", mode="a")
    table, options = snvs(letters, "a", range(100, 200)), {"context": 60}
    store.add_task(variant_task(table, genome, stride=40, word=6, **options))
    with pytest.raises(FingerprintError):
        store.add_task(variant_task(table, genome, stride=40, word=3, **options))
    # In the centre of their own windows variants are where they are, whatever the words.
    store.add_task(variant_task(table, genome, name="own", word=6, **options))
    store.add_task(variant_task(table, genome, name="own", **options))


def test_damage_to_the_table_is_found_and_repaired(stored):
    store, task = stored
    file = store.local / "variants/variant/reference/c/0"
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(CorruptError):
        open_store(store.path).variants("variants")
    assert not open_store(store.path).verify().sound
    open_store(store.path, mode="a").repair()
    again = open_store(store.path, mode="a")
    again.add_task(task)
    pd.testing.assert_frame_equal(again.variants("variants"), task.variants)
    assert again.verify().sound


def test_positions_are_those_of_the_pairs(stored):
    store, task = stored
    table = variant_positions(store, "variants", around=1)
    ids = task.samples["id"]
    first = task.variants.iloc[0]
    for sample in (first["reference"], first["alternate"]):
        assert table.loc[table["id"] == ids[sample], "position"].tolist() == [39, 40, 41]
    deletion = task.variants.iloc[4]
    assert table.loc[table["id"] == ids[deletion["alternate"]], "position"].tolist() == [19, 20]
    assert table.loc[table["id"] == ids[deletion["reference"]], "position"].tolist() == [19, 22]
    with pytest.raises(InputError, match="around is -1"):
        variant_positions(store, "variants", around=-1)


def test_a_task_without_variants_says_so(tmp_path):
    from embedstore import tasks

    store = open_store(tmp_path / "s.zarr", mode="a")
    store.add_task(tasks.from_sequences("t", ["ACGT"]))
    with pytest.raises(InputError, match="'t' is not one of variants"):
        store.variants("t")
