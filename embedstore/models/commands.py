"""The commands ``models`` and ``pretrain``."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from embedstore.arguments import add_other_letters
from embedstore.commands import print_table, show

if TYPE_CHECKING:
    import argparse


def add_models(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command ``models``."""
    text = "list the known models, or show one"
    example = "Example: embedstore models nt_v2_500m_multi_species"
    models = commands.add_parser("models", help=text, description=text, epilog=example)
    models.add_argument("model", nargs="?", metavar="MODEL", help="its name, or your own record: a TOML file")
    models.add_argument("--json", action="store_true", help="everything, for programs")
    models.set_defaults(run=_models)


def add_pretrain(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command ``pretrain``."""
    text = "train a language model of BEND, ResNet or AWD-LSTM, on a FASTA; goes on where a stopped run was"
    example = "Example: embedstore pretrain genome.fa --out lm --minutes 10"
    parser = commands.add_parser("pretrain", help=text, description=text, epilog=example)
    parser.add_argument("fasta", metavar="FASTA", help="a genome, or with --coding coding sequences")
    parser.add_argument("--out", required=True, metavar="DIR", help="checkpoint folder")
    parser.add_argument(
        "--architecture",
        choices=("convnet", "awd-lstm"),
        default="convnet",
        help="the ResNet, on masked nucleotides, or the AWD-LSTM, on each next one (default: %(default)s)",
    )
    parser.add_argument(
        "--hidden", type=int, default=64, metavar="N", help="channels (BEND: 256 or 64; default: %(default)s)"
    )
    parser.add_argument(
        "--layers", type=int, metavar="N", help="residual blocks (BEND: 30; default: 8) or LSTM layers (default: 1)"
    )
    parser.add_argument(
        "--window", type=int, default=512, metavar="N", help="nucleotides of a window (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=32, metavar="N", help="windows of a training step (default: %(default)s)"
    )
    parser.add_argument(
        "--learning-rate",
        type=float,
        metavar="R",
        help="highest rate, above 0, at most 1 (default: 0.001, and 0.005 for awd-lstm)",
    )
    parser.add_argument(
        "--coding",
        action="store_true",
        help="the sequences are coding sequences, whole codons: windows are in frame, on the strand given",
    )
    length = parser.add_mutually_exclusive_group(required=True)
    length.add_argument("--steps", type=int, metavar="N", help="training steps in all")
    length.add_argument("--minutes", type=float, metavar="T", help="time to train for, in all")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of weights, windows and masks (default: %(default)s)"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: %(default)s)")
    add_other_letters(parser)
    parser.set_defaults(run=_pretrain)


def _pretrain(arguments: argparse.Namespace) -> int:
    from embedstore.models.pretrain import pretrain

    lstm = arguments.architecture == "awd-lstm"
    layers = 1 if lstm else 8
    result = pretrain(
        arguments.fasta,
        arguments.out,
        architecture="awd_lstm" if lstm else "convnet",
        hidden=arguments.hidden,
        layers=layers if arguments.layers is None else arguments.layers,
        window=arguments.window,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        coding=arguments.coding,
        steps=arguments.steps,
        minutes=arguments.minutes,
        seed=arguments.seed,
        device=arguments.device,
        other_letters=arguments.other_letters,
    )
    codons = {}
    if not math.isnan(result.codon_perplexity):
        codons["codon_usage"] = f"{result.codon_perplexity:.4f} per masked nucleotide (sees its codon)"
    show(
        checkpoint=result.path,
        steps=result.steps,
        seconds=f"{result.seconds:.0f}",
        validation_perplexity=f"{result.perplexity:.4f} per {result.predicts}",
        order_5_Markov=f"{result.markov_perplexity:.4f} per nucleotide (sees the left side)",
        **codons,
    )
    return 0


def _models(arguments: argparse.Namespace) -> int:
    from embedstore.models.records import function_record, installed, record, records, summary

    if arguments.model:
        shown = [record(arguments.model)]
    else:
        shown = [*records().values(), *map(function_record, installed().values())]
    found = [{**model.to_dict(), "bytes_per_megabase": model.bytes_per_megabase} for model in shown]
    if arguments.json:
        print(json.dumps(found[0] if arguments.model else found, indent=2))
    elif arguments.model:
        # What is known; and an empty revision, which says that the user must give one.
        show(**{name: value for name, value in found[0].items() if value or (name == "revision" and shown[0].hub)})
    else:
        print_table([summary(model) for model in shown])
    return 0
