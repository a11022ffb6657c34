"""The command `embedstore finetune`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedstore.arguments import add_model_arguments, add_store_argument, model_arguments

if TYPE_CHECKING:
    import argparse


def add_finetune(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `embedstore finetune` to the command line.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    text = "tune a language model on a task by IA3 with a linear head, and test it once"
    example = "Example: embedstore finetune stability --model ./nt_v2 --store store.zarr"
    parser = commands.add_parser("finetune", help=text, description=f"{text}. See docs/finetuning.md.", epilog=example)
    parser.add_argument("task", metavar="TASK", help="a task in the store")
    add_model_arguments(parser)
    add_store_argument(parser)
    parser.add_argument("--out", metavar="DIR", help="folder for results (default: beside the store)")
    parser.add_argument("--fold", type=int, metavar="K", help="part to test on, for tasks with cross-validation")
    parser.add_argument("--test", metavar="SPLIT", action="append", help="test on this split (may be repeated)")
    parser.add_argument(
        "--coding-task", metavar="T", help="coding sequences of the samples of a protein task, for --augment gc"
    )
    own = parser.add_argument_group("training, where it is not to be as published")
    own.add_argument("--pooling", help="mean (default), tokens or cls")
    own.add_argument("--augment", help="gc, gc3, gc_skew, species, or several joined by + (default: nothing)")
    own.add_argument("--steps", type=int, help="default 10000")
    own.add_argument("--evaluate-every", type=int, metavar="N", help="steps between evaluations (default: 500)")
    own.add_argument("--batch-size", type=int, help="default 8")
    own.add_argument("--learning-rate", type=float, help="default 0.003")
    own.add_argument("--schedule", help="constant (default) or cosine")
    own.add_argument("--choose", help="keep the evaluation with the best validation loss (default) or metric")
    own.add_argument("--patience", type=int, help="stop after so many evaluations without a better one")
    own.add_argument("--tokens", type=int, help="most tokens of which activations are held at a time (default: 8192)")
    own.add_argument("--seed", type=int, help="default 0")
    parser.add_argument("--vectors", metavar="FILE", help="also write the IA3 vectors alone to this file")
    parser.set_defaults(run=_finetune, dtype="float32")


_SETTINGS = (
    *("pooling", "augment", "steps", "evaluate_every", "batch_size", "learning_rate", "schedule", "choose"),
    *("patience", "tokens", "seed"),
)


def _finetune(arguments: argparse.Namespace) -> int:
    """Tune a model and print its results."""
    from embedstore.models import load
    from embedstore.models.ia3 import save_ia3
    from embedstore.outputs import check_file, check_folder
    from embedstore.store import open_store
    from probes.finetuning import finetune
    from probes.results import results_folder
    from probes.roles import tested_on

    out = check_folder(arguments.out or results_folder(arguments.store))
    vectors = arguments.vectors and check_file(arguments.vectors, option="--vectors")
    store, model = open_store(arguments.store), load(**model_arguments(arguments), name=arguments.name)
    settings = {name: getattr(arguments, name) for name in _SETTINGS if getattr(arguments, name) is not None}
    result = finetune(
        store,
        arguments.task,
        model,
        out=out,
        fold=arguments.fold,
        splits=tested_on(arguments.test),
        coding_task=arguments.coding_task,
        **settings,
    )
    parameters = result.parameters
    share = (parameters["ia3"] + parameters["head"]) / parameters["model"]
    print(
        f"trained: {parameters['ia3']:,} numbers in IA3 vectors and {parameters['head']:,} in the head, {share:.3%} of "
        f"the {parameters['model']:,} of {model.name}, which stay as they are"
    )
    for split, test in result.tests.items():
        row = test.row
        print(test.per_class.to_string(float_format="{:.3f}".format))
        print(
            f"{row['task']}/{row['model']}: {split} {row['metric']} {row['test']:.4f} "
            f"(95 % interval {row['low']:.4f} to {row['high']:.4f} over {row['n_test']} samples), "
            f"validation {row['valid']:.4f}, step {row['best_step']} of {row['steps']}"
        )
        print(f"Learning curves, checkpoint and this table are in {test.path}")
    if vectors is not None:
        save_ia3(vectors, result.probe.vectors_of(model), model)
        print(f"The IA3 vectors are in {vectors}")
    return 0
