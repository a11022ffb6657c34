"""Single-nucleotide variants of a simulated genome: broken splice sites and motifs, and controls that break nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedstore.errors import InputError
from embedstore.gene_model import GENETIC_CODE, LETTERS, PROMOTER, TATA_BOX

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from embedstore.simulate import Simulation

_FROM_EXON_END = 3  # the donor matrix reaches three letters into the exon
_RARER = 10

# Sequence Ontology, as ClinVar writes it into the INFO field MC.
_ONTOLOGY = {
    "splice_donor": "SO:0001575|splice_donor_variant",
    "splice_acceptor": "SO:0001574|splice_acceptor_variant",
    "synonymous": "SO:0001819|synonymous_variant",
    "intergenic": "SO:0001628|intergenic_variant",
    "tata_box": "SO:0001782|TF_binding_site_variant",
    "promoter": "SO:0001631|upstream_gene_variant",
}
_INFO: dict[str, tuple[str, str, dict[Any, str]]] = {
    "label": ("CLNSIG", "Clinical significance", {0: "Benign", 1: "Pathogenic"}),
    "consequence": ("MC", "Molecular consequence, identifier|term", _ONTOLOGY),
}


def splice_variants(sim: Simulation, count: int, seed: int = 0) -> pd.DataFrame:
    """Draw variants that break splice sites, and as many synonymous and intergenic ones.

    A splice variant changes one of the two invariant letters of a donor (GT) or an acceptor (AG). For each, one
    synonymous and one intergenic variant with the same reference and alternate letter are drawn: a score that only
    knows which letter became which cannot tell the three kinds apart. Synonymous variants change the third letter of a
    codon and not its amino acid; they are not among the three letters next to an intron, which are part of its splice
    site. Intergenic ones are outside of genes and promoters.

    Parameters
    ----------
    sim
        The genome.
    count
        Variants of each of the three kinds.
    seed
        Same simulation and seed, same variants.

    Returns
    -------
    pandas.DataFrame
        3 x `count` rows in genome order, no position twice. Columns: chromosome; position (0-based); ref and alt
        (letters on the forward strand); consequence (``splice_donor``, ``splice_acceptor``, ``synonymous``,
        ``intergenic``); label (1 for splice variants, 0 for the others).

    Raises
    ------
    InputError
        If the genome is too small for so many.

    Examples
    --------
    >>> from embedstore.simulate import simulate_genome
    >>> splice_variants(simulate_genome(60_000, chromosomes=3), 10)["label"].sum()
    np.int64(10)
    """
    rng = np.random.default_rng(seed)
    genome = _joined(sim.contigs)
    sites = _splice_sites(_joined(sim.labels))
    splice = _one_each(rng, genome, np.concatenate(list(sites.values())))
    if len(splice) < count:
        raise InputError(f"{count:,} splice variants are wanted; the genome has {len(splice):,} letters of GT and AG.")
    splice = splice[:count]
    broken = {kind: splice[np.isin(splice[:, 0], places)] for kind, places in sites.items()}
    controls = {
        "synonymous": _one_each(rng, genome, *_synonymous(sim, genome)),
        "intergenic": _one_each(rng, genome, np.flatnonzero(_intergenic(sim))),
    }
    return _with_controls(sim, broken, controls, "splice")


def motif_variants(sim: Simulation, count: int, seed: int = 0) -> pd.DataFrame:
    """Draw variants that disrupt TATA boxes, and as many elsewhere in promoters and in intergenic sequence.

    A disrupting variant puts a letter in place of one that the matrix the boxes were drawn from
    (`embedstore.gene_model.TATA_BOX`) has ten times as often, or more, at that position. For each, one variant in a
    promoter, outside of its TATA box, and one intergenic variant with the same reference and alternate letter are
    drawn. Promoters are the 40 nucleotides before a transcript; around the box they are background sequence.

    Parameters
    ----------
    sim
        The genome.
    count
        Variants of each of the three kinds.
    seed
        Same simulation and seed, same variants.

    Returns
    -------
    pandas.DataFrame
        3 x `count` rows, as `splice_variants` gives them. Consequences: ``tata_box`` (label 1), ``promoter`` and
        ``intergenic`` (label 0).

    Raises
    ------
    InputError
        If the genome is too small for so many.

    Examples
    --------
    >>> from embedstore.simulate import simulate_genome
    >>> motif_variants(simulate_genome(60_000, chromosomes=3), 10)["consequence"].value_counts().to_dict()
    {'tata_box': 10, 'promoter': 10, 'intergenic': 10}
    """
    rng = np.random.default_rng(seed)
    genome = _joined(sim.contigs)
    broken = _one_each(rng, genome, *_disrupting(sim, genome))
    if len(broken) < count:
        raise InputError(
            f"{count:,} variants in TATA boxes are wanted; the genome has {len(broken):,} letters whose change "
            f"disrupts one. Ask for fewer or simulate a longer genome."
        )
    controls = {
        "promoter": _one_each(rng, genome, np.flatnonzero(_promoters(sim) & ~_covered(sim, sim.motifs))),
        "intergenic": _one_each(rng, genome, np.flatnonzero(_intergenic(sim))),
    }
    return _with_controls(sim, {"tata_box": broken[:count]}, controls, "TATA box")


def random_variants(contigs: Mapping[str, NDArray[np.uint8]], count: int, seed: int = 0) -> pd.DataFrame:
    """Draw single-nucleotide variants anywhere.

    Parameters
    ----------
    contigs
        Name -> (nucleotide,) uint8, ASCII letters, such as those of a simulation. Letters other than A, C, G and T are
        not changed.
    count
        Variants.
    seed
        Same contigs and seed, same variants.

    Returns
    -------
    pandas.DataFrame
        `count` rows in genome order, no position twice: chromosome, position (0-based), ref, alt.

    Raises
    ------
    InputError
        If there are fewer letters than variants.

    Examples
    --------
    >>> random_variants({"chr1": np.frombuffer(b"ACGTNNNNACGT", np.uint8)}, 2)["position"].tolist()
    [2, 8]
    """
    genome = _joined(contigs)
    places = np.flatnonzero(np.isin(genome, LETTERS))
    if len(places) < count:
        raise InputError(f"{count:,} variants are wanted; the contigs have {len(places):,} letters A, C, G and T.")
    return _table(contigs, _one_each(np.random.default_rng(seed), genome, places)[:count])


def write_vcf(path: str | Path, variants: pd.DataFrame, contigs: Mapping[str, NDArray[np.uint8]]) -> Path:
    """Write variants as plain VCF 4.2, with labels and consequences the way ClinVar has them.

    Parameters
    ----------
    path
        File to write.
    variants
        chromosome, position (0-based), ref, alt. Where there is a column ``label``, INFO has ``CLNSIG``: Pathogenic
        for 1, Benign for 0. Where there is a column ``consequence``, INFO has ``MC``: the Sequence Ontology's
        identifier and term.
    contigs
        The genome; gives the names and lengths of the ``##contig`` lines.

    Returns
    -------
    pathlib.Path
        The file. Records stand in the order of the rows; positions are 1-based.

    Raises
    ------
    InputError
        If a label is neither 0 nor 1, or a consequence is none of those that are drawn here.
    """
    head = ["##fileformat=VCFv4.2"]
    head += [f"##contig=<ID={name},length={len(codes)}>" for name, codes in contigs.items()]
    info = []
    for column, (field, title, values) in _INFO.items():
        if column not in variants:
            continue
        head.append(f'##INFO=<ID={field},Number=.,Type=String,Description="{title}">')
        unknown = variants.loc[~variants[column].isin(list(values)), column].tolist()
        if unknown:
            raise InputError(
                f"{column} is {unknown[0]!r} in {len(unknown):,} of {len(variants):,} variants; "
                f"{', '.join(map(str, values))} can be written to INFO {field}."
            )
        info.append(f"{field}=" + variants[column].map(values))
    head.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    about = map(";".join, zip(*info, strict=True)) if info else ["."] * len(variants)
    cells = (variants[column] for column in ("chromosome", "position", "ref", "alt"))
    lines = [
        f"{name}\t{place + 1}\t.\t{ref}\t{alt}\t.\t.\t{text}"
        for name, place, ref, alt, text in zip(*cells, about, strict=True)
    ]
    path = Path(path)
    path.write_text("\n".join([*head, *lines, ""]), encoding="ascii", newline="\n")
    return path


def _joined(contigs: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Return what chromosomes have at each place, on a genome of joined chromosomes."""
    return np.concatenate(list(contigs.values()))


def _first(contigs: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Return where each chromosome begins, on a genome of joined chromosomes."""
    return dict(zip(contigs, np.cumsum([0, *map(len, contigs.values())]).tolist(), strict=False))


def _with_controls(
    sim: Simulation, broken: dict[str, NDArray[np.int64]], controls: dict[str, NDArray[np.int64]], kind: str
) -> pd.DataFrame:
    """Return changes that break something, and controls of each kind with the same letters."""
    genome = _joined(sim.contigs)
    wanted = np.concatenate(list(broken.values()))
    found = broken | {name: _matched(genome, wanted, offered, name, kind) for name, offered in controls.items()}
    size = [len(part) for part in found.values()]
    return _table(
        sim.contigs,
        np.concatenate(list(found.values())),
        consequence=np.repeat(list(found), size),
        label=np.repeat([int(name in broken) for name in found], size),
    )


def _table(
    contigs: Mapping[str, NDArray[np.uint8]], changes: NDArray[np.int64], **columns: NDArray[Any]
) -> pd.DataFrame:
    """Return changes, (place, alternate letter), as a table in genome order."""
    import pandas as pd

    place, alternate = changes.T
    first = np.array(list(_first(contigs).values()))
    contig = np.searchsorted(first, place, side="right") - 1
    table = pd.DataFrame(
        {
            "chromosome": np.array(list(contigs), dtype=object)[contig],
            "position": place - first[contig],
            "ref": [chr(letter) for letter in _joined(contigs)[place]],
            "alt": [chr(letter) for letter in alternate],
            **columns,
        }
    )
    return table.iloc[np.argsort(place)].reset_index(drop=True)


def _splice_sites(labels: NDArray[np.int8]) -> dict[str, NDArray[np.int64]]:
    """Return the places of the two letters of each donor and acceptor, on a genome of joined chromosomes."""
    donor, acceptor, donor_reverse, acceptor_reverse = (np.flatnonzero(labels == k) for k in (1, 3, 5, 7))
    return {
        "splice_donor": np.concatenate([donor, donor + 1, donor_reverse, donor_reverse - 1]),
        "splice_acceptor": np.concatenate([acceptor, acceptor - 1, acceptor_reverse, acceptor_reverse + 1]),
    }


def _intergenic(sim: Simulation) -> NDArray[np.bool_]:
    """Return what is outside of genes and promoters, on a genome of joined chromosomes."""
    genes = sim.genes
    return ~_covered(sim, genes.assign(start=genes["start"] - PROMOTER, end=genes["end"] + PROMOTER))


def _promoters(sim: Simulation) -> NDArray[np.bool_]:
    """Return the promoters, on a genome of joined chromosomes."""
    genes = sim.genes
    start = np.where(genes["strand"] == "+", genes["start"] - PROMOTER, genes["end"])
    return _covered(sim, genes.assign(start=start, end=start + PROMOTER))


def _covered(sim: Simulation, spans: pd.DataFrame) -> NDArray[np.bool_]:
    """Return what spans (chromosome, start, end) cover, on a genome of joined chromosomes."""
    covered = {name: np.zeros(len(codes), bool) for name, codes in sim.contigs.items()}
    for chromosome, start, end in zip(*(spans[name] for name in ("chromosome", "start", "end")), strict=True):
        covered[chromosome][max(0, start) : end] = True
    return _joined(covered)


def _disrupting(sim: Simulation, genome: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return places and alternate letters of all changes that disrupt a TATA box, on joined chromosomes."""
    boxes = sim.motifs[sim.motifs["kind"] == "tata_box"]
    forward = (boxes["strand"] == "+").to_numpy()[:, None]
    first = boxes["chromosome"].map(_first(sim.contigs)).to_numpy(np.int64)[:, None]
    step = np.arange(len(TATA_BOX))
    start, end = (boxes[[edge]].to_numpy(np.int64) for edge in ("start", "end"))
    place = np.asarray(first + np.where(forward, start + step, end - 1 - step), np.int64)
    letter = np.searchsorted(LETTERS, genome[place])
    chance = TATA_BOX[step, np.where(forward, letter, 3 - letter)]
    box, position, changed = np.nonzero(chance[..., None] >= _RARER * TATA_BOX)
    return place[box, position], LETTERS[np.where(forward[box, 0], changed, 3 - changed)].astype(np.int64)


def _synonymous(sim: Simulation, genome: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return places and alternate letters of all synonymous changes, on a genome of joined chromosomes."""
    amino_acid = np.frombuffer(GENETIC_CODE.encode(), np.uint8)
    index = np.zeros(256, np.int64)
    index[LETTERS] = np.arange(4)
    complement = np.zeros(256, np.int64)
    complement[LETTERS] = LETTERS[::-1]
    first = _first(sim.contigs)
    places, alternates = [], []
    for chromosome, strand, exons in zip(*(sim.genes[name] for name in ("chromosome", "strand", "exons")), strict=True):
        place = np.concatenate([np.arange(start, end) for start, end in exons]) + first[chromosome]
        inner = np.concatenate([_inside(end - start) for start, end in exons])
        if strand == "-":
            place, inner = place[::-1], inner[::-1]
        sense = genome[place] if strand == "+" else complement[genome[place]]
        codons = index[sense].reshape(-1, 3) @ [16, 4, 1]
        changed = codons[:, None] - codons[:, None] % 4 + np.arange(4)  # the third letter is any of the four
        same = (amino_acid[changed] == amino_acid[codons][:, None]) & (changed != codons[:, None])
        same &= inner[2::3, None]
        same[-1] = False  # a stop codon is not labelled as exon
        codon, letter = np.nonzero(same)
        places.append(place[2::3][codon])
        alternates.append(LETTERS[letter] if strand == "+" else complement[LETTERS[letter]])
    return np.concatenate(places), np.concatenate(alternates)


def _inside(length: int) -> NDArray[np.bool_]:
    """Return which nucleotides of an exon are not next to its ends."""
    place = np.arange(length)
    return (place >= _FROM_EXON_END) & (place < length - _FROM_EXON_END)


def _one_each(
    rng: np.random.Generator,
    genome: NDArray[np.uint8],
    places: NDArray[np.int64],
    alternates: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Return one change per place, in random order, (place, alternate letter); any of three where none are given."""
    if alternates is None:
        places = rng.permutation(places)
        step = rng.integers(1, 4, size=len(places))
        return np.stack([places, LETTERS[(np.searchsorted(LETTERS, genome[places]) + step) % 4]], axis=1)
    order = rng.permutation(len(places))
    kept = order[np.unique(places[order], return_index=True)[1]]
    return rng.permutation(np.stack([places[kept], alternates[kept]], axis=1))


def _matched(
    genome: NDArray[np.uint8], wanted: NDArray[np.int64], candidates: NDArray[np.int64], control: str, kind: str
) -> NDArray[np.int64]:
    """Return candidates with the same reference and alternate letters as those wanted, as many of each pair."""
    pairs, offered = (genome[change[:, 0]].astype(np.int64) * 256 + change[:, 1] for change in (wanted, candidates))
    chosen = []
    for pair, count in zip(*np.unique(pairs, return_counts=True), strict=True):
        found = np.flatnonzero(offered == pair)
        if len(found) < count:
            raise InputError(
                f"{count} {control} variants {chr(pair // 256)}>{chr(pair % 256)} are wanted to match {kind} variants; "
                f"the genome has {len(found)}. Ask for fewer variants or simulate a longer genome."
            )
        chosen.append(candidates[found[:count]])
    return np.concatenate(chosen)
