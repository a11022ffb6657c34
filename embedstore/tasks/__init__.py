"""Tasks: what to embed and what to predict from it."""

from embedstore.tasks.downloads import download
from embedstore.tasks.labels import Labels
from embedstore.tasks.published import Publication, publication, published_value
from embedstore.tasks.records import TaskRecord, names, record
from embedstore.tasks.tables import from_table
from embedstore.tasks.task import Task, from_bed, from_fasta, from_sequences
from embedstore.variants.tabular import read_published as read_variants

__all__ = [
    "Labels",
    "Publication",
    "Task",
    "TaskRecord",
    "download",
    "from_bed",
    "from_fasta",
    "from_sequences",
    "from_table",
    "names",
    "publication",
    "published_value",
    "read_variants",
    "record",
]
