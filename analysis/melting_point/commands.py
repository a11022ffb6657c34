"""The command `embedstore melting-point`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    import pandas as pd

    from analysis.melting_point.data import StudyData
    from analysis.melting_point.study import Study


def add_melting_point(commands: argparse._SubParsersAction[Any]) -> None:
    """Add `embedstore melting-point` to the command line.

    Parameters
    ----------
    commands
        What ``ArgumentParser.add_subparsers`` gave.
    """
    text = "ask what a model of coding sequences knows of melting points: species, codon usage or the order of codons"
    description = f"{text}. See docs/melting_point.md."
    example = "Example: embedstore melting-point --world mixed --out study"
    parser = commands.add_parser("melting-point", help=text, description=description, epilog=example)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--world", metavar="W", help="simulate: mixed, species_only, local_only or gc_only")
    source.add_argument("--store", metavar="S", help="read the pooled embeddings of a store")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for tables, figures and study.json")
    parser.add_argument("--task", metavar="T", help="with --store (default: melting_point)")
    parser.add_argument("--protein-task", metavar="T", help="with --store (default: TASK.protein)")
    parser.add_argument("--protein-model", metavar="M", help="with --store: model of the proteins")
    parser.add_argument("--coding-models", nargs="+", metavar="M", help="models of the coding sequences")
    parser.add_argument("--samples", type=int, metavar="N", help="with --world: genes (default: 1500)")
    parser.add_argument("--test", type=int, metavar="N", help="with --world: test samples (default: 500)")
    parser.add_argument("--permutations", type=int, metavar="N", help="with --world: seeds (default: 5)")
    parser.add_argument("--seed", type=int, metavar="N", help="with --world: of the world (default: 0)")
    parser.add_argument(
        "--language-model",
        action="store_true",
        default=None,
        help="with --world: train a language model, too",
    )
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="draws of folds (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=2000, metavar="N", help="bootstrap draws (default: %(default)s)")
    parser.add_argument("--partition-only", action="store_true", help="leave out what else is asked about species")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    """Run the study, write it and print what it says."""
    from analysis.melting_point.inference import check_numbers
    from analysis.melting_point.study import melting_point_study
    from analysis.melting_point.study_files import check_out, write_study

    given = _given(arguments)
    if arguments.world is not None:
        source = {"world": arguments.world, "seed": given.get("seed", 0)}
    else:
        source = {"store": arguments.store, "task": given.get("task", "melting_point")}
    check_numbers(arguments.seeds, arguments.draws)
    check_out(arguments.out, source)
    arms = None
    if arguments.world is not None:
        from analysis.melting_point.simulated import CODING_MODELS, simulate_studies, transplanted

        coding = arguments.coding_models or CODING_MODELS
        studies = simulate_studies(arguments.world, arguments.out, coding_models=coding, **given)
        arms = None if arguments.partition_only else transplanted(studies)
    else:
        studies = _read(arguments, **given)
    study = melting_point_study(
        studies,
        seeds=range(arguments.seeds),
        draws=arguments.draws,
        species_analyses=not arguments.partition_only,
        arms=arms,
        progress=True,
    )
    folder = write_study(study, arguments.out, source=source)
    print(_summary(study))
    print(f"\nTables, figures and study.json are in {folder}.")
    return 0


_OPTIONS = {
    "world": ("samples", "test", "permutations", "seed", "language_model"),
    "store": ("task", "protein_task", "protein_model"),
}
"""Options that only one of the two sources has."""


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options of the source that were given; refuse those of the other."""
    from embedstore.errors import InputError

    source, other = ("world", "store") if arguments.world is not None else ("store", "world")
    foreign = [name for name in _OPTIONS[other] if getattr(arguments, name) is not None]
    if foreign:
        raise InputError(f"--{foreign[0].replace('_', '-')} goes with --{other}, not with --{source}.")
    return {name: getattr(arguments, name) for name in _OPTIONS[source] if getattr(arguments, name) is not None}


def _read(
    arguments: argparse.Namespace,
    *,
    task: str = "melting_point",
    protein_task: str | None = None,
    protein_model: str | None = None,
) -> dict[str, StudyData]:
    """Read the study of each model from a store."""
    from analysis.melting_point.reading import read_studies
    from embedstore import open_store
    from embedstore.errors import InputError

    if not arguments.coding_models or not protein_model:
        raise InputError("--store needs --protein-model and --coding-models: what the tasks were embedded with.")
    store = open_store(arguments.store)
    return read_studies(
        store,
        task,
        coding_models=arguments.coding_models,
        protein_model=protein_model,
        protein_task=protein_task,
    )


def _summary(study: Study) -> str:
    """Return the verdict, its evidence, and the terms."""
    from analysis.melting_point.verdict import NOTE, RULE

    lines = [
        _size(study),
        "\nTerms of the partition, R2 within species (95 % interval)",
        _terms(study.tables["partition"]),
        "\nEvidence",
        _evidence(study.tables["evidence"]),
        f"\nThe rule: {RULE}",
        f"\nVerdict: {study.verdict.conclusion}",
        study.verdict.text,
        NOTE,
    ]
    if study.missing:
        lines += ["\nNot in this study", *(f"  {name}: {why}" for name, why in study.missing.items())]
    return "\n".join(lines)


def _size(study: Study) -> str:
    """Return how many samples there are, and what the species alone explains."""
    about = study.settings
    return (
        f"{about['train']:,} training and {about['test']:,} test samples of {about['species']} species; the species "
        f"mean alone has R2 {about['species_share']:.3f}."
    )


def _terms(partition: pd.DataFrame) -> str:
    """Return one line for each term, one column for each model."""
    rows = partition[partition["measure"] == "within"]
    text = [f"{row.estimate:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in rows.itertuples()]
    shown = rows.assign(text=text)
    table = shown.pivot_table(index="contrast", columns="model", values="text", aggfunc="first", sort=False)
    return table.rename_axis(None).rename_axis(None, axis=1).to_string()


def _evidence(evidence: pd.DataFrame) -> str:
    """Return the criteria, and whether they hold."""
    shown = evidence.assign(holds=evidence["holds"].map({True: "yes", False: "no"}))
    numbers = ["estimate", "low", "high"]
    shown[numbers] = shown[numbers].map("{:+.3f}".format, na_action="ignore").fillna("")
    return shown.to_string(index=False)
