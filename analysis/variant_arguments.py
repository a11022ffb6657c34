"""Arguments that several commands of `embedstore variants` take, and what the functions behind them are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstore.arguments import add_model_arguments, add_other_letters, add_store_argument

if TYPE_CHECKING:
    import argparse


def add_genome_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says which genome the coordinates are of."""
    parser.add_argument("--fasta", required=True, metavar="G", help="the genome")
    add_other_letters(parser)


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file of variants and what is read from it."""
    parser.add_argument("file", metavar="FILE", help="VCF, BCF, BED with ref and alt, or TSV with CHROM POS REF ALT")
    parser.add_argument("--label", metavar="FIELD", help="column or INFO field (default: label, or CLNSIG)")
    parser.add_argument(
        "--consequence", metavar="FIELD", help="column or INFO field (default: consequence, or MC, CSQ, ANN)"
    )
    parser.add_argument("--columns", type=names, default=(), metavar="AF,...", help="more INFO fields to keep")


def add_scoring_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the store and what the model is shown of each variant."""
    add_genome_arguments(parser)
    add_store_argument(parser)
    add_model_arguments(parser)
    _add_window_arguments(parser)
    _add_mean_arguments(parser)
    parser.add_argument("--batch-tokens", type=int, metavar="N", help="most tokens in a batch (default: by a trial)")
    # Differences between two windows are smaller than what float16 rounds away.
    parser.set_defaults(dtype="float32")


def _add_window_arguments(parser: argparse.ArgumentParser) -> None:
    """Add which letters around a variant the model sees."""
    parser.add_argument(
        "--context",
        type=int,
        metavar="N",
        help="letters before the variant, and after it including itself (default: 256; for models that read from left "
        "to right 512, before and including it)",
    )
    parser.add_argument(
        "--off-by-one",
        action="store_true",
        help="for models that read from left to right: BEND's window, which ends before the variant",
    )
    parser.add_argument(
        "--edges",
        choices=("shift", "pad"),
        default="shift",
        help="windows that would leave a chromosome: move them inside, or fill up with N (default: %(default)s)",
    )
    parser.add_argument(
        "--stride",
        type=int,
        default=1,
        metavar="N",
        help="let neighbouring variants share windows, about N / 2 letters off the middle at most and at the same "
        "place in the model's words (default: %(default)s, each in the middle of its own)",
    )


def _add_mean_arguments(parser: argparse.ArgumentParser) -> None:
    """Add over what scores are averaged."""
    parser.add_argument(
        "--strands",
        choices=("forward", "both"),
        default="forward",
        help="both: averaged over the sequence and its reverse complement (default: %(default)s)",
    )
    parser.add_argument(
        "--frames",
        type=int,
        default=1,
        metavar="K",
        help="mean of the scores over windows that begin at K neighbouring letters, for models that read words "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--around",
        type=int,
        default=0,
        metavar="K",
        help="mean over the variant and K letters to each side (default: %(default)s)",
    )


_WINDOW = ("context", "strands", "frames", "around", "off_by_one", "stride", "edges", "batch_tokens")


def scoring(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `score_variants` and `mutagenesis` are told of windows."""
    return {name: getattr(arguments, name) for name in _WINDOW}


def names(text: str) -> tuple[str, ...]:
    """Read names separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _groups(text: str) -> str | int:
    """Read what is drawn together: a column, or the letters of a block."""
    digits = text.replace(",", "").replace("_", "")
    return int(digits) if digits.isdigit() else text


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Add how tables of scores are evaluated."""
    parser.add_argument(
        "--by", metavar="COLUMN", help="groups, such as consequence (default: that, where there is one)"
    )
    parser.add_argument(
        "--groups",
        type=_groups,
        metavar="G",
        help="what the bootstrap draws together: a column such as gene, or blocks of so many letters "
        "(default: each variant by itself)",
    )
    least = "fewest positives and negatives of a group (default: %(default)s)"
    parser.add_argument("--least", type=int, default=10, metavar="N", help=least)
    parser.add_argument("--draws", type=int, default=1000, metavar="N", help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: %(default)s)")
    parser.add_argument("--out", metavar="F", help="write all numbers to this .csv, .tsv or .parquet")


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says which embedding the scores are of, to have them among the results of probes."""
    group = parser.add_argument_group("to have the AUROC of all variants in `embedstore results`")
    group.add_argument("--store", metavar="S", help="where the windows were embedded: writes the results beside it")
    group.add_argument("--task", metavar="T", help="task of the windows (default: the only one that fits)")
    group.add_argument("--model", metavar="M", help="its embedding (default: the only one that fits)")
    group.add_argument("--results", metavar="DIR", help="where to write (default: beside the store)")
    group.add_argument(
        "--setting",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="what else decided the scores, such as strands=both; part of what a result is known by",
    )


def _setting(text: str) -> tuple[str, str]:
    """Read a name and a value."""
    import argparse

    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r}: NAME=VALUE is wanted, such as strands=both")
    return name, value


_DRAWING = ("groups", "least", "draws", "seed")


def drawing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what `score_table` and `compare_scores` are told of the bootstrap."""
    return {name: getattr(arguments, name) for name in _DRAWING}
