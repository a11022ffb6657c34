"""Tasks: what to embed and what to predict from it."""

from embedstore.tasks.labels import Labels
from embedstore.tasks.records import TaskRecord, names, record
from embedstore.tasks.tables import from_table
from embedstore.tasks.task import Task, from_bed, from_fasta, from_sequences

__all__ = [
    "Labels",
    "Task",
    "TaskRecord",
    "from_bed",
    "from_fasta",
    "from_sequences",
    "from_table",
    "names",
    "record",
]
