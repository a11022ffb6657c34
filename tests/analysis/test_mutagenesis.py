"""The map of all changes in a region: the scores of its variants one by one, and a model whose map is known."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from toys import random_sequences

import embedstore
from analysis.mutagenesis_map import mutagenesis
from analysis.scoring import score_variants
from embedstore.errors import FingerprintError, InputError
from embedstore.genome import Genome
from embedstore.models import load
from embedstore.models.function import function_model

GOLDEN = Path(__file__).parents[1] / "golden"
CONTIGS = dict(zip(("chr1", "HLA*2"), random_sequences([400, 150], seed=3), strict=True))
CONTIGS["chr1"] = CONTIGS["chr1"][:200] + "NNR" + CONTIGS["chr1"][203:]
CONTIGS["gap"] = "N" * 50
QUIET = {"progress": False}


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text("".join(f">{name}\n{text}\n" for name, text in CONTIGS.items()))
    return path


@pytest.fixture
def genome(fasta):
    with Genome(fasta, other_letters="N") as opened:
        yield opened


def flags(text):
    """1 where a nucleotide is part of a GT."""
    found = np.zeros(len(text))
    for i in range(len(text) - 1):
        if text[i : i + 2] == "GT":
            found[i : i + 2] = 1
    return found


def sees_gt():
    """A model of two channels: 1, and whether the nucleotide is part of a GT."""

    def rows(texts):
        return [(np.stack([np.ones(len(t)), flags(t)], 1).astype(np.float32), np.ones(len(t), int)) for t in texts]

    return function_model("gt", rows, version="1")


def test_a_model_that_sees_gt_has_the_map_of_made_and_broken_gt(genome):
    found = mutagenesis("chr1:20-120", genome, sees_gt(), context=30, **QUIET)
    text = CONTIGS["chr1"]
    expected = np.zeros((100, 4))
    for row, place in enumerate(range(20, 120)):
        for column, letter in enumerate("ACGT"):
            after = text[:place] + letter + text[place + 1 :]
            # Vectors (1, 0) and (1, 1) are at 45 degrees.
            expected[row, column] = (flags(text)[place] != flags(after)[place]) * (1 - np.sqrt(0.5))
    np.testing.assert_allclose(found, expected, atol=1e-7)
    assert (expected > 0).sum() > 20


def test_what_the_map_says_of_itself(genome):
    found = mutagenesis(("chr1", 20, 30), genome, sees_gt(), context=30, **QUIET)
    assert found.dims == ("position", "letter")
    assert found.dtype == np.float64
    assert found["position"].to_numpy().tolist() == list(range(20, 30))
    assert "".join(found["letter"].to_numpy()) == "ACGT"
    assert "".join(found["reference"].to_numpy()) == CONTIGS["chr1"][20:30]
    assert found.name == "cosine"
    assert found.attrs == {"chromosome": "chr1", "score": "cosine", "model": "gt", "context": 30}


@pytest.mark.parametrize(
    ("family", "score", "options", "context"),
    [
        ("resnet_lm", "cosine", {"context": 40}, 40),
        ("resnet_lm", "window_l2", {"context": 40, "stride": 16, "strands": "both"}, 40),
        ("nt_v2", "cosine", {"frames": 2}, 256),
        ("resnet_lm", "inner_product", {}, 256),
        ("resnet_lm", "llr_masked", {"context": 40}, 40),
        ("hyenadna", "cosine", {}, 512),
        ("hyenadna", "entropy_causal", {"context": 60}, 60),
    ],
)
def test_every_cell_is_the_score_of_its_variant(genome, family, score, options, context):
    model = load(GOLDEN / family)
    found = mutagenesis("HLA*2:97-100", genome, model, score=score, **options, **QUIET)
    assert found.attrs["context"] == context
    text = CONTIGS["HLA*2"]
    # Last variant first: nothing may depend on their order.
    variants = [("HLA*2", p, text[p], alt) for p in (99, 98, 97) for alt in "TGCA" if alt != text[p]]
    table = pd.DataFrame(variants, columns=["chromosome", "position", "ref", "alt"])
    scored = score_variants(table, genome, model, scores=[score], **options, **QUIET)
    for row in scored.itertuples():
        assert float(found.sel(position=row.position, letter=row.alt)) == pytest.approx(
            getattr(row, score), rel=1e-4, abs=1e-6
        )
    own = [float(found.sel(position=p, letter=text[p])) for p in (97, 98, 99)]
    np.testing.assert_array_equal(own, np.nan if score in ("inner_product", "entropy_causal") else 0)
    assert scored[score].nunique() > (2 if score.startswith("entropy") else 8)


def test_a_cell_is_the_score_of_that_variant_alone(genome):
    model, text = load(GOLDEN / "resnet_lm"), CONTIGS["HLA*2"]
    found = mutagenesis("HLA*2:70-74", genome, model, context=40, **QUIET)
    one = pd.DataFrame({"chromosome": ["HLA*2"], "position": 72, "ref": text[72], "alt": "ACGT"[text[72] == "A"]})
    alone = score_variants(one, genome, model, context=40, **QUIET)
    assert float(found.sel(position=72, letter=one["alt"][0])) == pytest.approx(alone["cosine"][0], rel=1e-4, abs=1e-6)


def test_the_alternates_of_a_position_share_its_reference_window(genome):
    store = embedstore.open_store("memory://", mode="a")
    mutagenesis("HLA*2:96-106", genome, sees_gt(), store, context=40, **QUIET)
    mutagenesis("HLA*2:96-106", genome, sees_gt(), store, context=40, stride=40, name="shared", **QUIET)
    assert {name: len(store.samples(name)) for name in store.tasks()} == {
        "mutagenesis.HLA-2_96_106": 40,
        "shared": 31,
    }
    with pytest.raises(FingerprintError):
        mutagenesis("HLA*2:96-107", genome, sees_gt(), store, context=40, name="shared", **QUIET)


def test_letters_that_are_not_known_have_no_scores(genome):
    found = mutagenesis("chr1:198-205", genome, sees_gt(), context=30, **QUIET)
    assert "".join(found["reference"].to_numpy())[2:5] == "NNN"
    assert np.isnan(found[2:5]).all()
    assert not np.isnan(found[[0, 1, 5, 6]]).any()


def test_changes_that_are_not_scored_are_nan_and_named(genome, caplog):
    """The window of BEND's slip ends before the variant; before the first nucleotide there is none."""
    with caplog.at_level(logging.WARNING, "analysis"):
        found = mutagenesis("HLA*2:0-3", genome, load(GOLDEN / "hyenadna"), off_by_one=True, **QUIET)
    assert np.isnan(found[0]).sum() == 3
    assert not np.isnan(found[1:]).any()
    assert "HLA*2:0-3: 3 changes are not scored and NaN: 3: no nucleotide" in caplog.text


def test_a_path_in_place_of_a_genome_and_a_file(genome, tmp_path):
    plain = tmp_path / "plain.fa"
    plain.write_text(f">c\n{CONTIGS['HLA*2']}\n")
    found = mutagenesis("c:0-4", plain, sees_gt(), **QUIET)
    np.testing.assert_array_equal(found, mutagenesis("HLA*2:0-4", genome, sees_gt(), **QUIET))
    found.to_netcdf(tmp_path / "map.nc")
    with xr.open_dataarray(tmp_path / "map.nc") as again:
        xr.testing.assert_identical(again.load(), found)


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ("chr1", r"The region is 'chr1'; 'chromosome:start-end' or \(chromosome, start, end\) is wanted, 0-based"),
        ("chr1:5", "is wanted, 0-based"),
        ("chr1:1,000-2,000", "is wanted, 0-based"),
        ("chr1:-5-20", "is wanted, 0-based"),
        (("chr1", 5), r"The region is \('chr1', 5\)"),
        (("chr1", 5.5, 9), r"The region is \('chr1', 5.5, 9\)"),
        (("chr1", "5", "9"), r"The region is \('chr1', '5', '9'\)"),
        (7, "The region is 7"),
        ("1:5-9", r"no contig '1'.* The genome calls it 'chr1'"),
        ("chr1:5-5", r"chr1:5-5; 0 <= start < end <= 400, the length of 'chr1' in genome.fa"),
        ("chr1:9-5", r"chr1:9-5; 0 <= start < end"),
        ("chr1:390-401", r"chr1:390-401; 0 <= start < end <= 400"),
        (("chr1", -1, 5), r"chr1:-1-5; 0 <= start"),
        ("gap:3-9", "genome.fa: gap:3-9 has no letter A, C, G or T"),
    ],
)
def test_regions_that_are_none(genome, region, said):
    with pytest.raises(InputError, match=said):
        mutagenesis(region, genome, sees_gt(), **QUIET)


def test_unknown_scores(genome):
    with pytest.raises(InputError, match="Did you mean 'cosine'"):
        mutagenesis("chr1:5-9", genome, sees_gt(), score="cosin", **QUIET)
