"""The commands `embedstore variants check`, `score`, `evaluate`, `compare` and `mutagenesis`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from analysis.variant_arguments import (
    add_file_arguments,
    add_genome_arguments,
    add_result_arguments,
    add_scoring_arguments,
    add_table_arguments,
    drawing,
    names,
    scoring,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from analysis.scoring import EmbeddedVariants
    from embedstore.genome import Genome
    from embedstore.store import Store

_LISTED = 20


def add_variants(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `embedstore variants` and its commands to the command line.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    text = "score variants without training: check, score, evaluate, compare, mutagenesis"
    parser = commands.add_parser("variants", help=text, description=f"{text}. See docs/variants.md.")
    own = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_check(own)
    _add_score(own)
    _add_evaluate(own)
    _add_compare(own)
    _add_mutagenesis(own)


# ---- check ---------------------------------------------------------------------------------------


def _add_check(commands: argparse._SubParsersAction[Any]) -> None:
    text = "compare the variants of a file with the genome; exit code 1 if reference alleles differ from it"
    example = "Example: embedstore variants check variants.vcf --fasta genome.fa"
    parser = commands.add_parser("check", help=text, description=text, epilog=example)
    add_file_arguments(parser)
    add_genome_arguments(parser)
    parser.add_argument("--out", metavar="F", help="write all mismatches to this .tsv, .csv or .parquet")
    parser.set_defaults(run=_check)


def _check(arguments: argparse.Namespace) -> int:
    """Print what is in a file of variants, and which do not fit the genome."""
    from analysis.variant_files import TABLES
    from embedstore.outputs import check_file
    from embedstore.variants import match_rates, write_scores

    out = check_file(arguments.out, suffixes=TABLES, source=arguments.file) if arguments.out else None
    variants, genome = _read(arguments)
    with genome:
        table, wrong = _held_against(variants, genome)
        rates = match_rates(variants, genome)
    _print_counts(table)
    print("\nREF against the genome")
    rates["rate"] = rates["rate"].map("{:.1%}".format, na_action="ignore")
    print(_text(rates.set_index("hypothesis").rename_axis(None)))
    if out is not None:
        write_scores(wrong, out)
    if wrong.empty:
        print("Every REF that can be compared is that of the genome.")
        return 0
    listed = wrong[["line", "chromosome", "position", "ref", "alt", "id", "reason"]].head(_LISTED)
    print(f"\n{len(wrong):,} mismatches (position is 0-based)")
    print(_text(listed.set_index("line").rename_axis(None)))
    if out is not None:
        print(f"All are in {out}.")
    elif len(wrong) > _LISTED:
        print(f"... and {len(wrong) - _LISTED:,} more; --out mismatches.tsv writes all of them.")
    return 1


def _held_against(variants: pd.DataFrame, genome: Genome) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the checked table, and its rows that do not fit the genome."""
    import pandas as pd

    from embedstore.errors import InputError, ReferenceMismatchError
    from embedstore.variants import check_variants
    from embedstore.variants.checking import mismatches

    try:
        table = check_variants(variants, genome, drop_mismatches=True)
    except InputError as none_left:
        try:
            check_variants(variants, genome)
        except ReferenceMismatchError as error:
            return pd.DataFrame(error.checked).assign(kind=""), pd.DataFrame(error.mismatches)
        raise AssertionError from none_left  # it fails again
    return table, mismatches(table)


def _read(arguments: argparse.Namespace) -> tuple[pd.DataFrame, Genome]:
    """Return the variants that the arguments name, as the file has them, and the genome."""
    from embedstore.genome import Genome
    from embedstore.variants import read_variants

    named = {name: getattr(arguments, name) for name in ("label", "consequence", "columns")}
    variants = read_variants(arguments.file, **named)
    return variants, Genome(arguments.fasta, other_letters=arguments.other_letters)


def _print_counts(table: pd.DataFrame) -> None:
    """Print how many variants there are of each kind, and why some are not scored."""
    from analysis.variant_reports import counts

    rows = "".join(f", {count:,} with {what}" for what, count in table.attrs.get("rows", {}).items())
    print(f"{len(table):,} variants in {table['record'].nunique():,} records{rows}")
    for found in counts(table):
        if len(found):
            print(_text(found))


def _text(table: pd.DataFrame) -> str:
    """Return a table as text, its index to the left."""
    return str(table.to_string(na_rep=""))


# ---- score ---------------------------------------------------------------------------------------


def _add_score(commands: argparse._SubParsersAction[Any]) -> None:
    from embedstore.workers import add_worker_arguments

    text = "score the variants of a file with a model; goes on where a stopped run was"
    example = "Example: embedstore variants score variants.vcf --fasta genome.fa --model lm --out scores.parquet"
    parser = commands.add_parser("score", help=text, description=f"{text}. See docs/variants.md.", epilog=example)
    add_file_arguments(parser)
    add_scoring_arguments(parser)
    add_worker_arguments(parser)
    parser.add_argument(
        "--out", required=True, metavar="F", help=".parquet, .csv, .tsv, or .vcf, .vcf.gz, .bcf from VCF or BCF"
    )
    parser.add_argument("--task", metavar="NAME", help="name of the windows in the store (default: that of FILE)")
    scores = "cosine, l2, inner_product, window_cosine, llr_masked, ... (default: cosine)"
    parser.add_argument("--scores", type=names, action="extend", metavar="S,...", help=scores)
    parser.add_argument("--by", metavar="COLUMN", help="groups of the table of AUROC (default: consequence)")
    parser.add_argument(
        "--drop-mismatches", action="store_true", help="score the rest where REF is not the genome's; by default refuse"
    )
    parser.set_defaults(run=_score)


def _score(arguments: argparse.Namespace) -> int:
    """Score variants, write them, and print what came of it."""
    import time

    from analysis import variant_files as files
    from analysis.variant_groups import labels
    from analysis.variants import score_kinds
    from embedstore.outputs import check_file
    from embedstore.variants import check_variants, write_scores

    began = time.monotonic()
    out = check_file(arguments.out, suffixes=(*files.TABLES, *files.VARIANT_FILES), source=arguments.file)
    scores = list(score_kinds(["cosine"] if arguments.scores is None else arguments.scores))
    task = files.task_name(arguments.task, arguments.file, arguments.store)
    variants, genome = _read(arguments)
    variants = files.set_aside(variants, scores, arguments.file)
    files.check_source(out, arguments.file, scores)
    if "label" in variants:
        labels(variants)
    with genome:
        by = files.groups_column(variants, arguments.by, arguments.file)
        # Seen before the model is loaded.
        variants = check_variants(variants, genome, drop_mismatches=arguments.drop_mismatches)
        _print_counts(variants)
        embedded = _embedded(arguments, variants, genome, task, scores)
    if embedded.blocks_left:
        print(f"This share is done; {embedded.blocks_left} blocks of others are not yet. The last one writes {out}.")
        return 0
    table = embedded.scores()
    write_scores(table, out, source=arguments.file, scores=scores)
    print()
    _print_scored(table, embedded.store, out)
    _print_labelled(table, scores, by, out)
    print(f"{time.monotonic() - began:,.1f} s in all. Scores are in {out}.")
    return 0


def _embedded(
    arguments: argparse.Namespace, variants: pd.DataFrame, genome: Genome, task: str, scores: list[str]
) -> EmbeddedVariants:
    """Embed the windows of variants, here or by the processes that the arguments ask for."""
    from analysis.scoring import check_scoring, embed_variants
    from analysis.variant_workers import embedder, model_here
    from embedstore.store import open_store

    model = model_here(arguments)
    check_scoring(model, scores, **scoring(arguments))
    return embed_variants(
        variants,
        genome,
        model,
        open_store(arguments.store, mode="a"),
        name=task,
        scores=scores,
        drop_mismatches=arguments.drop_mismatches,
        embed_with=embedder(arguments, model),
        **scoring(arguments),
    )


def _print_scored(table: pd.DataFrame, store: Store, out: Path) -> None:
    """Print how many variants are scored and what that took; write those that are not."""
    from analysis.variant_reports import not_scored, stored
    from embedstore.describe import human_bytes

    lacking = not_scored(table, out)
    scored = len(table) - lacking.rows
    print(f"{len(table):,} variants read, {scored:,} scored in full, {lacking.rows:,} not")
    if lacking.rows:
        print(_text(lacking.reasons))
        print(f"These are in {lacking.path}.")
    for run in stored(store, table):
        before = f", {run.blocks_before} of {run.blocks} blocks were there already" if run.blocks_before else ""
        size = f", {human_bytes(run.bytes / scored)} stored per variant" if run.bytes and scored else ""
        print(f"{run.task}/{run.embedding}: {run.windows:,} windows{size}; {run.seconds:,.1f} s{before}")


def _print_labelled(table: pd.DataFrame, scores: list[str], by: str | None, out: Path) -> None:
    """Print and write how well scores tell labels apart, where there are labels."""
    from analysis.variant_reports import labelled, shown

    found = labelled(table, scores, by, out)
    if found.table is None:
        print(found.note)
        return
    print(f"\nAUROC and AUPRC against the labels, with 95 % intervals by bootstrap{f', by {by}' if by else ''}")
    print(_text(shown(found.table)))
    print(f"These are in {', '.join(map(str, found.paths))}.")


# ---- evaluate and compare ------------------------------------------------------------------------


def _add_evaluate(commands: argparse._SubParsersAction[Any]) -> None:
    text = "AUROC and AUPRC of scores against labels: over all variants and by group, with baselines"
    example = "Example: embedstore variants evaluate scores.parquet --groups 1000000 --out auroc.csv"
    parser = commands.add_parser("evaluate", help=text, description=text, epilog=example)
    parser.add_argument("table", metavar="SCORES", help="table that `embedstore variants score` wrote")
    parser.add_argument("--scores", type=names, default=(), metavar="S,...", help="columns (default: all scores)")
    parser.add_argument("--fasta", metavar="G", help="the genome: adds baselines that need no model")
    parser.add_argument("--annotation", metavar="GFF", help="GFF3 or GTF, with --fasta: adds distances to splice sites")
    add_table_arguments(parser)
    add_result_arguments(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    """Print how well the scores of a table tell labels apart."""
    from analysis.variant_files import groups_column, read_scores, score_columns
    from analysis.variant_reports import evaluated, shown
    from analysis.variant_results import write_zero_shot

    out = _table_output(arguments)
    table = read_scores(arguments.table)
    columns = score_columns(table, arguments.scores, arguments.table)
    behind = _behind(arguments, table, columns)
    found = evaluated(
        table,
        columns,
        by=groups_column(table, arguments.by, arguments.table),
        fasta=arguments.fasta,
        annotation=arguments.annotation,
        **drawing(arguments),
    )
    for by, part in found.groupby("by", sort=False):
        print(f"by {by!s}" if by else "all variants")
        lines = shown(part)
        print(_text(lines) if len(lines) else "No variant has both a label and a score.")
    _write_table(found, out)
    for column, (store, task, model) in behind.items():
        options = {"groups": arguments.groups, "settings": dict(arguments.setting), "draws": arguments.draws}
        folder = write_zero_shot(table, store, task, model, column=column, out=arguments.results, **options)
        print(f"{column}, all variants, of {task}/{model}: among the results, {folder}.")
    return 0


def _behind(
    arguments: argparse.Namespace, table: pd.DataFrame, columns: Sequence[str]
) -> dict[str, tuple[Store, str, str]]:
    """Return the embedding behind each score that is to be written among the results."""
    from analysis.variant_results import embedding_behind
    from embedstore.errors import InputError
    from embedstore.store import open_store

    given = {f"--{name}": getattr(arguments, name) for name in ("task", "model", "results", "setting")}
    if arguments.store is None:
        stray = [flag for flag, value in given.items() if value]
        if stray:
            raise InputError(f"{stray[0]} says what is written among the results: give --store, the store, too.")
        return {}
    store = open_store(arguments.store)
    return {
        column: (store, *embedding_behind(table, store, column, task=arguments.task, model=arguments.model))
        for column in columns
    }


def _add_compare(commands: argparse._SubParsersAction[Any]) -> None:
    text = "the difference of two models, or of two scores, on the same variants, by a paired bootstrap"
    example = "Example: embedstore variants compare scores.parquet other.parquet --score cosine"
    parser = commands.add_parser("compare", help=text, description=text, epilog=example)
    parser.add_argument("table", metavar="A", help="table that `embedstore variants score` wrote")
    parser.add_argument("other", metavar="B", nargs="?", help="another of the same variants (default: A)")
    score = "column of both, or that of the first and that of the second (default: cosine)"
    parser.add_argument("--score", type=names, default=("cosine",), metavar="S[,T]", help=score)
    add_table_arguments(parser)
    parser.set_defaults(run=_compare)


def _compare(arguments: argparse.Namespace) -> int:
    """Print the differences of two tables of scores."""
    from analysis.variant_files import groups_column, read_scores, score_columns
    from analysis.variant_reports import shown_difference
    from analysis.variant_tables import compare_scores
    from embedstore.errors import InputError

    out = _table_output(arguments)
    if not 1 <= len(arguments.score) <= 2:
        raise InputError(f"--score {','.join(arguments.score)}: one column of both tables, or two, are wanted.")
    paths = [arguments.table, arguments.other or arguments.table]
    first, second = (read_scores(path) for path in paths)
    columns = arguments.score[0], arguments.score[-1]
    for table, column, path in zip((first, second), columns, paths, strict=True):
        score_columns(table, (column,), path)
    by = groups_column(first, arguments.by, arguments.table)
    found = compare_scores(first, second if arguments.other else None, columns, by=by, **drawing(arguments))
    print(f"first: {columns[0]} in {paths[0]}; second: {columns[1]} in {paths[1]}; difference with 95 % interval")
    print(_text(shown_difference(found)))
    _write_table(found, out)
    return 0


def _table_output(arguments: argparse.Namespace) -> Path | None:
    """Return where all numbers are to be written, if they are."""
    from analysis.variant_files import TABLES
    from embedstore.outputs import check_file

    if not arguments.out:
        return None
    sources = (arguments.table, vars(arguments).get("other"))
    paths = [check_file(arguments.out, suffixes=TABLES, source=source) for source in sources]
    return paths[0]


def _write_table(table: pd.DataFrame, out: Path | None) -> None:
    """Write all numbers where that was asked for."""
    from embedstore.variants import write_scores

    if out is not None:
        write_scores(table, out)
        print(f"All numbers are in {out}.")


# ---- mutagenesis ---------------------------------------------------------------------------------


def _add_mutagenesis(commands: argparse._SubParsersAction[Any]) -> None:
    text = "score every change of one letter in a region, as a map of positions x 4 letters"
    example = "Example: embedstore variants mutagenesis chr1:1000-1040 --fasta genome.fa --model lm --out map.png"
    parser = commands.add_parser("mutagenesis", help=text, description=text, epilog=example)
    parser.add_argument("region", metavar="REGION", help="chromosome:start-end, 0-based, half-open")
    add_scoring_arguments(parser)
    parser.add_argument("--score", default="cosine", metavar="S", help="see docs/variants.md (default: %(default)s)")
    parser.add_argument(
        "--out", required=True, metavar="F", help=".png, .pdf or .svg with the numbers as CSV beside it; .csv or .nc"
    )
    parser.set_defaults(run=_mutagenesis, store="memory://")


def _mutagenesis(arguments: argparse.Namespace) -> int:
    """Score every change in a region, and write the map."""
    from analysis.mutagenesis_map import mutagenesis, parse_region
    from analysis.variant_reports import MAPS, write_map
    from analysis.variant_workers import model_here
    from analysis.variants import score_kinds
    from embedstore.genome import Genome
    from embedstore.outputs import check_file

    out = check_file(arguments.out, suffixes=MAPS, source=arguments.fasta)
    score_kinds(arguments.score)
    with Genome(arguments.fasta, other_letters=arguments.other_letters) as genome:
        region = parse_region(arguments.region, genome)
        found = mutagenesis(
            region, genome, model_here(arguments), arguments.store, score=arguments.score, **scoring(arguments)
        )
    written = write_map(found, out)
    print(f"{found.sizes['position']:,} positions x {found.sizes['letter']} letters: {' and '.join(map(str, written))}")
    return 0
