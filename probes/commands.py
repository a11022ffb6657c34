"""The command `embedstore probe`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstore.arguments import add_store_argument

if TYPE_CHECKING:
    import argparse


def add_probe(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `embedstore probe` to the command line.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    text = "train the two-layer CNN probe of a task on stored embeddings, and test it once"
    parser = commands.add_parser("probe", help=text, description=text)
    parser.add_argument("task", metavar="TASK")
    parser.add_argument("--model", required=True, metavar="M", help="an embedding in the store, or onehot")
    add_store_argument(parser)
    parser.add_argument("--out", default="results", metavar="DIR", help="folder for results (default: %(default)s)")
    parser.add_argument("--fold", type=int, metavar="K", help="part to test on, for tasks with cross-validation")
    recipe = parser.add_argument_group("in place of the task's recipe")
    recipe.add_argument("--epochs", type=int)
    recipe.add_argument("--batch-size", type=int)
    recipe.add_argument("--learning-rate", type=float)
    recipe.add_argument("--hidden", type=int, help="channels of the two convolutions")
    recipe.add_argument("--patience", type=int, help="stop after so many epochs without a better validation metric")
    recipe.add_argument("--seed", type=int)
    recipe.add_argument("--device", help="cpu, cuda, ... (default: the best there is)")
    parser.set_defaults(run=_probe)


_RECIPE = ("epochs", "batch_size", "learning_rate", "hidden", "patience", "seed", "device")


def _probe(arguments: argparse.Namespace) -> int:
    """Run a probe and print its result."""
    from embedstore.store import open_store
    from probes.experiment import run_probe

    overrides = {name: getattr(arguments, name) for name in _RECIPE if getattr(arguments, name) is not None}
    result = run_probe(
        open_store(arguments.store),
        arguments.task,
        arguments.model,
        out=arguments.out,
        fold=arguments.fold,
        **overrides,
    )
    row = result.row
    print(result.per_class.to_string(float_format="{:.3f}".format))
    print(
        f"{row['task']}/{row['model']}: test {row['metric']} {row['test']:.4f} "
        f"(95 % interval {row['low']:.4f} to {row['high']:.4f} over {row['n_test']} samples), "
        f"validation {row['valid']:.4f}, epoch {row['best_epoch']} of {row['epochs']}"
    )
    print(f"Learning curves, checkpoint and this table are in {result.path}")
    return 0
