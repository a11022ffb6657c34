"""The command `embedstore demo`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from analysis.demo import DemoResult


def add_demo(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `embedstore demo` to the command line.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    text = "show the whole way on a simulated genome: pretrain, embed, probe, score variants, draw"
    description = f"{text}; a second run uses what the first one left"
    example = "Example: embedstore demo --out demo"
    parser = commands.add_parser("demo", help=text, description=description, epilog=example)
    parser.add_argument("--out", default="demo", metavar="DIR", help="folder for everything (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of genome and model (default: %(default)s)")
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="T",
        help="pretrain for so long by the clock (default: 2,000 steps, about two minutes on two cores)",
    )
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    """Run the demonstration and print what it found."""
    from analysis.demo import run_demo

    # The bars say enough; a log line for every epoch and block would hide the tables.
    loggers = [logging.getLogger(name) for name in ("embedstore", "probes")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        result = run_demo(arguments.out, seed=arguments.seed, minutes=arguments.minutes)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    print(_summary(result))
    return 0


def _summary(result: DemoResult) -> str:
    """Return the tables, where things are, and what to type next."""
    import pandas as pd

    from analysis.demo import ONE_HOT, SWEEP, TASK, TRAINED, UNTRAINED
    from analysis.variant_reports import intervals

    genes, variants = result.gene_finding, result.variants
    about = {
        TRAINED: "language model, frozen",
        UNTRAINED: "the same network before training",
        ONE_HOT: "the letters themselves",
    }
    found = pd.DataFrame(
        {"MCC (95 % interval)": intervals(genes, "value", "low", "high"), "": genes["model"].map(about)}
    )
    found.index = pd.Index(genes["model"])
    scored = variants.assign(shown=intervals(variants, "auroc", "low", "high")).pivot_table(
        index="model", columns="controls", values="shown", aggfunc="first", sort=False
    )
    store, tested = result.store, genes["n_test"].iloc[0]
    perplexity, markov = result.perplexity, result.markov_perplexity
    return f"""
The language model was pretrained on the training chromosomes without labels. Perplexity on windows held out from them:
{perplexity:.3f} per masked nucleotide, seeing both sides; an order-5 Markov model, seeing the left side: {markov:.3f}.

Gene finding: the same two-layer CNN on each, nine classes per nucleotide; {tested} genes on other chromosomes:

{_text(found)}

Variants that break splice sites, against controls with the same letters: AUROC of the cosine distance, averaged over
both strands, no training:

{_text(scored)}

Figures, with their numbers as CSV beside them: {", ".join(str(path) for path in result.figures)}
The store is {store}. What to type next:

  embedstore info {store}
  embedstore sweep {result.folder / SWEEP}
  embedstore probe {TASK} --model {TRAINED} --store {store} --recipe best --epochs 30
  python -c "import embedstore; print(embedstore.open_store('{store}').open('{TASK}', '{TRAINED}'))"
"""


def _text(table: pd.DataFrame) -> str:
    """Return a table of texts, left-aligned."""
    cells = [[table.index.name or "", *table.columns], *([name, *row] for name, *row in table.itertuples())]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(f"  {line}".rstrip() for line in lines)
