"""From a list of proteins to a dataset of their true coding sequences, with a reason for every protein without one."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from embedstore.coding.reasons import REASONS, TRANSIENT
from embedstore.curation import uniprot
from embedstore.curation.checking import TABLES, Choice, Match, check_record, choose
from embedstore.curation.client import Fault
from embedstore.curation.local import local_candidates, read_files
from embedstore.curation.network import Named, Servers, fetch_records, find_candidates, find_chains
from embedstore.curation.rcsb import Part
from embedstore.curation.records import CodingRecord, without_version
from embedstore.curation.retention import retention_table
from embedstore.curation.rows import OWN_COLUMNS, Row, prepared, read_rows
from embedstore.errors import InputError, did_you_mean
from embedstore.outputs import check_folder
from embedstore.shards import write_durable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

    from embedstore.curation.client import Client

logger = logging.getLogger(__name__)


class Curation(NamedTuple):
    """What became of a list of proteins.

    Attributes
    ----------
    dataset
        One row per protein with a coding sequence: the columns of the list, then ``cds``, ``transl_table``,
        ``has_start``, ``has_stop``, ``cds_accession``, ``cds_source``, ``cds_organism``, ``distinct_cds`` (how many
        different coding sequences encode exactly this protein) and ``flags``.
    rejects
        One row per protein without: ``id``, ``stage``, ``reason``, ``detail``.
    retention
        See `embedstore.curation.retention.retention_table`.
    undecided
        How many of the rejects a server is to blame for; the same run later asks again for these alone.
    """

    dataset: pd.DataFrame
    rejects: pd.DataFrame
    retention: pd.DataFrame
    undecided: int


class _Reject(NamedTuple):
    stage: str
    fault: Fault


def curate(
    table: str | Path | pd.DataFrame,
    folder: str | Path,
    *,
    fasta: Iterable[str | Path] = (),
    client: Client | None = None,
    servers: Servers | None = None,
    names: Sequence[str] = (),
    tables: Sequence[int] = (1, 11),
    other_species: bool = False,
    workers: int = 4,
    progress: bool = False,
) -> Curation:
    """Find the coding sequence of every protein of a list, and check that it encodes the protein exactly.

    Local files are searched first; what they do not have is looked for in the public databases. Each stage writes a
    file to the folder: ``accessions.jsonl``, ``mapping.jsonl``, ``candidates.jsonl``, ``fetched.jsonl``,
    ``checked.jsonl``, ``dataset.jsonl``, ``rejects.jsonl``, and ``retention.tsv``. Answers of servers are in the
    client's cache: a run that was stopped goes on where it was, and an offline client repeats it without a network.

    Parameters
    ----------
    table
        The list: CSV, TSV, JSON lines or Parquet, or a DataFrame. Columns ``id`` or ``accession`` (of UniProt) or both,
        and ``protein``; where they are there ``species``, ``taxon``, ``transl_table`` and ``chain`` (``2uzi-C``, for
        chains of structures) are used; all others are kept.
    folder
        Where the files go; made if it is not there.
    fasta
        FASTA files of coding sequences.
    client
        Asks the databases; None (default) for local files alone.
    servers
        Where the databases are; the public ones by default.
    names
        Further columns whose cells name records of the local files, such as ``gene``.
    tables
        Genetic codes of the local files, where neither they nor the list say; default (1, 11). Where several differ
        and give the protein it is rejected.
    other_species
        Take the coding sequence of another species where there is no other; default False.
    workers
        Requests under way at a time.
    progress
        Show bars.

    Returns
    -------
    Curation
        Rows in the order of the list.

    Raises
    ------
    InputError
        The list or a local file is not as it must be, or there is neither a file nor a client.
    RemoteError
        A server failed twenty times in a row, or its ID mapping failed; what was fetched is kept.
    """
    fasta = list(fasta)
    if client is None and not fasta:
        raise InputError("Nothing to search: give FASTA files of coding sequences, or a client for the databases.")
    frame = _frame(table)
    for name in names:
        if name not in frame:
            raise InputError(f"the list has no column {name!r} (names, --names).{did_you_mean(name, map(str, frame))}")
    if workers < 1:
        raise InputError(f"workers is {workers}; 1 or more is wanted.")
    folder = check_folder(folder, option="the folder for what curation writes (--out)")
    rows: dict[int, Row] = {}
    outcome: dict[int, Choice | _Reject] = {}
    for number, row in read_rows(frame, names):
        if isinstance(row, Fault):
            outcome[number] = _Reject("accessions", row)
        else:
            rows[number] = row
    checks: list[dict[str, Any]] = []
    if fasta:
        outcome |= _search_files(fasta, rows, tables, other_species, checks)
    _write(folder / "accessions.jsonl", [row._asdict() for row in rows.values()])
    if client is not None:
        left = {number: row for number, row in rows.items() if not isinstance(outcome.get(number), Choice)}
        outcome |= _search_databases(
            client, left, folder, servers or Servers(), checks, other_species, workers=workers, progress=progress
        )
    _write(folder / "checked.jsonl", checks)
    return _finish(frame, rows, outcome, folder)


def _frame(table: str | Path | pd.DataFrame) -> pd.DataFrame:
    """Return the list with its columns checked."""
    if not isinstance(table, str | Path):
        return prepared(table, "table")
    from embedstore.tasks.tables import read_table

    return prepared(read_table(Path(table)).frame, str(table))


def _search_files(
    paths: Iterable[str | Path],
    rows: dict[int, Row],
    tables: Sequence[int],
    other_species: bool,
    checks: list[dict[str, Any]],
) -> dict[int, Choice | _Reject]:
    """Look for the proteins in local files."""
    files = read_files(paths, tables=tables)
    outcome: dict[int, Choice | _Reject] = {}
    for number, row in rows.items():
        found = local_candidates(files, row)
        # Names may repeat within a file.
        named: dict[str, CodingRecord | Fault] = {
            f"{one.source}:{one.accession}{f' ({place})' if place > 1 else ''}": one
            for place, one in enumerate(found, 1)
        }
        if not found:
            outcome[number] = _Reject("candidates", Fault("not_in_files", "no name and no translation of it is there"))
        else:
            outcome[number] = _judge(row, named, Named(row.accession), other_species, checks, tables)
    return outcome


def _search_databases(
    client: Client,
    rows: dict[int, Row],
    folder: Path,
    servers: Servers,
    checks: list[dict[str, Any]],
    other_species: bool,
    *,
    workers: int,
    progress: bool,
) -> dict[int, Choice | _Reject]:
    """Look for the proteins in the public databases."""
    outcome: dict[int, Choice | _Reject] = {}
    parts = find_chains(client, list(rows.values()), servers)
    accession: dict[int, str] = {}
    for number, row in rows.items():
        part = parts.get(row.id)
        if isinstance(part, Fault):
            outcome[number] = _Reject("mapping", part)
        elif part is None and not row.accession:
            outcome[number] = _Reject("accessions", Fault("not_an_accession", f"{row.id}: no accession of UniProt"))
        else:
            accession[number] = part.accession if part is not None else row.accession
    mapping = uniprot.map_ids(client, accession.values(), address=servers.uniprot)
    wanted = sorted(set(accession.values()))
    _write(
        folder / "mapping.jsonl",
        [{"accession": one, "to": mapping.pairs.get(one, []), "failed": one in mapping.failed} for one in wanted],
    )
    proteins: dict[str, set[str]] = {}
    for number, name in accession.items():
        proteins.setdefault(name, set()).add(rows[number].protein)
    named = find_candidates(client, proteins, mapping, servers)
    _write(folder / "candidates.jsonl", [_plain(named[one]) for one in wanted])
    asked = {one for value in named.values() for one in value.candidates}
    records = fetch_records(client, asked, servers, workers=workers, progress=progress)
    _write(folder / "fetched.jsonl", [{"asked": one, **_plain(records[one])} for one in sorted(records)])
    for number, name in accession.items():
        row, value, part = rows[number], named[name], parts.get(rows[number].id)
        if value.fault is not None:
            outcome[number] = _Reject("candidates", value.fault)
            continue
        if isinstance(part, Part):
            value = value._replace(part=(part.begin, part.end))
        outcome[number] = _judge(row, {one: records[one] for one in value.candidates}, value, other_species, checks)
    return outcome


def _judge(
    row: Row,
    records: dict[str, CodingRecord | Fault],
    named: Named,
    other_species: bool,
    checks: list[dict[str, Any]],
    tables: Sequence[int] = TABLES,
) -> Choice | _Reject:
    """Check all candidates of a protein, and choose."""
    outcomes: dict[str, Match | Fault] = {}
    # A record that came and does not fit says more than one that did not come: those are judged first.
    for asked, record in sorted(records.items(), key=lambda item: isinstance(item[1], Fault)):
        if isinstance(record, Fault):
            outcomes[asked] = record
            continue
        outcome = check_record(record, row.protein, table=row.table, tables=tables, part=named.part)
        if isinstance(outcome, Match) and asked == without_version(record.accession) != record.accession:
            outcome = outcome._replace(flags=(*outcome.flags, "versionless"))
        outcomes[asked] = outcome
    for asked, outcome in outcomes.items():
        reason, detail = outcome if isinstance(outcome, Fault) else ("", "")
        checks.append({"id": row.id, "cds": asked, "reason": reason, "detail": detail})
    choice = choose(
        list(outcomes.values()),
        taxon=row.taxon or named.taxon,
        organisms=(row.species, named.organism),
        other_species=other_species,
    )
    unknown = [one for one in records.values() if isinstance(one, Fault) and one.reason in TRANSIENT]
    if isinstance(choice, Choice):
        if not unknown:
            return choice
        match = choice.match
        return choice._replace(match=match._replace(flags=(*match.flags, "candidates_missing")))
    if unknown:
        # One of those that a server did not give may be the right one.
        return _Reject("fetched", unknown[0])
    if all(isinstance(one, Fault) for one in records.values()):
        return _Reject("fetched", choice)
    if row.isoform and choice.reason != "species_mismatch":
        choice = Fault("isoform", f"isoform {row.isoform} of {row.accession}; {choice.reason}: {choice.detail}")
    return _Reject("checked", choice)


def _finish(frame: pd.DataFrame, rows: dict[int, Row], outcome: dict[int, Choice | _Reject], folder: Path) -> Curation:
    """Write what was kept, what was not, and how much of what."""
    import pandas as pd

    kept = [(number, one) for number, one in sorted(outcome.items()) if isinstance(one, Choice)]
    lost = [(number, one) for number, one in sorted(outcome.items()) if isinstance(one, _Reject)]
    chosen = pd.DataFrame([_columns(one) for _, one in kept], columns=OWN_COLUMNS)
    base = (
        frame.iloc[[number for number, _ in kept]].drop(columns="transl_table", errors="ignore").reset_index(drop=True)
    )
    dataset = pd.concat([base.infer_objects(), chosen], axis=1)
    dataset["protein"] = [rows[number].protein for number, _ in kept]
    rejects = pd.DataFrame(
        [(frame.loc[number, "id"], one.stage, *one.fault) for number, one in lost],
        columns=["id", "stage", "reason", "detail"],
    )
    species = frame["species"].astype(str) if "species" in frame else pd.Series("", index=frame.index)
    stage = pd.Series({number: one.stage if isinstance(one, _Reject) else "" for number, one in outcome.items()})
    fates = pd.DataFrame({"species": species, "length": frame["protein"].astype(str).str.len(), "stage": stage})
    retention = retention_table(fates)
    _write(folder / "dataset.jsonl", dataset.to_dict("records"))
    _write(folder / "rejects.jsonl", rejects.to_dict("records"))
    write_durable(folder / "retention.tsv", [retention.to_csv(sep="\t", index=False).encode()])
    assert set(rejects["reason"]) <= set(REASONS)
    return Curation(dataset, rejects, retention, int(rejects["reason"].isin(TRANSIENT).sum()))


def _columns(choice: Choice) -> dict[str, Any]:
    """Return what the dataset says of a coding sequence."""
    match = choice.match
    return {
        "cds": match.cds,
        "transl_table": match.table,
        "has_start": match.has_start,
        "has_stop": match.has_stop,
        "cds_accession": match.record.accession,
        "cds_source": match.record.source,
        "cds_organism": match.record.organism,
        "distinct_cds": choice.distinct,
        "flags": ",".join(match.flags),
    }


def _plain(value: Any) -> dict[str, Any]:
    """Turn a named tuple into what JSON can hold."""
    return {name: one._asdict() if hasattr(one, "_asdict") else one for name, one in value._asdict().items()}


def _write(path: Path, values: Iterable[Mapping[Any, Any]]) -> None:
    """Write JSON lines so that the file is there whole or not at all."""
    write_durable(path, [(json.dumps(value, default=_number) + "\n").encode() for value in values])


def _number(value: Any) -> Any:
    """Turn what numpy and Parquet hold into what JSON does."""
    return value.tolist()
