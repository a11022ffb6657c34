"""Tasks: what to embed and what to predict from it."""

from embedstore.tasks.coding import CodingData, coding_task, make_coding, protein_task, read_coding
from embedstore.tasks.downloads import download
from embedstore.tasks.labels import Labels
from embedstore.tasks.published import Publication, publication, published_value
from embedstore.tasks.records import TaskRecord, names, record
from embedstore.tasks.tables import from_table
from embedstore.tasks.task import Task, from_bed, from_fasta, from_sequences
from embedstore.variants.tabular import read_published as read_variants

__all__ = [
    "CodingData",
    "Labels",
    "Publication",
    "Task",
    "TaskRecord",
    "coding_task",
    "download",
    "from_bed",
    "from_fasta",
    "from_sequences",
    "from_table",
    "make_coding",
    "names",
    "protein_task",
    "publication",
    "published_value",
    "read_coding",
    "read_variants",
    "record",
]
