"""Genomes: FASTA files read through pyfaidx, behind checks of our own.

pyfaidx trusts an index by its date and answers a request past the end of a contig with fewer letters. Here the
whole file is read once when it is opened: every index record is held against the bytes it stands for, and the same
pass gives the digest of each contig. Later requests are checked for bounds, length and letters.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import os
import re
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from embedstore.errors import DiskSpaceError, InputError, did_you_mean
from embedstore.sequences import clean_letters, encode, reverse_complement

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Literal, Self

    import pyfaidx
    from numpy.typing import NDArray

    from embedstore.tokenizers.tokens import Alphabet

_log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 24


class _Contig(NamedTuple):
    """What the opening pass learns of a contig."""

    length: int
    line: int  # of the file, where its first nucleotide stands
    width: int  # nucleotides on a line
    digest: str


class Genome:
    r"""A FASTA file, plain or compressed, opened for reading at any place.

    Opening reads the file once (about 10 s for a human genome, half a minute where the index must be made) and keeps
    lengths and digests in memory; contigs are then read on demand. A missing ``.fai`` is made and, where the directory
    can be written, kept beside the FASTA. A ``.fai`` that does not fit the file is refused, whatever its date. A gzip
    file, from gzip or bgzip alike, is unpacked into the temporary directory for as long as it is open, which takes its
    unpacked size on that disk (``TMPDIR`` says which); an index beside it is not used.

    Parameters
    ----------
    path
        FASTA file. The name of a contig is the first word of its header.
    other_letters
        What to do about letters other than A, C, G, T and N when they are fetched: ``"refuse"`` (default) raises;
        ``"N"`` reads them as N. Lower case is read as upper case.
    alphabet
        ``"dna"`` (default), or ``"protein"`` for a file of proteins, whose letters are checked as such.

    Attributes
    ----------
    path : pathlib.Path
        The file.
    contigs : dict of str to int
        Length of each contig in nucleotides, in the order of the file.
    digest : str
        sha256, in hex, over the sorted lines ``name<TAB>length<TAB>contig digest``: the same for two files with the
        same contigs, whatever their order, line width, case or compression.

    Raises
    ------
    InputError
        If the file is missing, empty, damaged or not FASTA, if two contigs share a name, if lines differ in length
        within a contig, or if the index beside it does not fit.
    DiskSpaceError
        If a gzip file does not fit into the temporary directory.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "tiny.fa")
    ...     _ = path.write_text(">chr1\nACGTac\n")
    ...     with Genome(path) as genome:
    ...         genome.contigs, genome.fetch("chr1", 3, 6, "-").tobytes()
    ({'chr1': 6}, b'GTA')
    """

    def __init__(
        self, path: str | Path, *, other_letters: Literal["refuse", "N"] = "refuse", alphabet: Alphabet = "dna"
    ) -> None:
        if other_letters not in {"refuse", "N"}:
            raise InputError(f"other_letters is {other_letters!r}; it must be 'refuse' or 'N'.")
        self.path = Path(path)
        self._other_letters = other_letters
        self._alphabet: Alphabet = alphabet
        # On POSIX an open file lives on without its name: nothing is left behind, however this process ends.
        with tempfile.TemporaryDirectory(prefix="embedstore-", ignore_cleanup_errors=True) as scratch:
            self._faidx, self._contigs = _open(self.path, Path(scratch))
        self.contigs = {name: contig.length for name, contig in self._contigs.items()}
        lines = sorted(f"{name}\t{c.length}\t{c.digest}\n" for name, c in self._contigs.items())
        self.digest = hashlib.sha256("".join(lines).encode()).hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        total = sum(self.contigs.values())
        return f"Genome({str(self.path)!r}: {len(self.contigs):,} contigs, {total:,} nucleotides)"

    def close(self) -> None:
        """Close the file."""
        self._faidx.close()

    def contig_digest(self, name: str) -> str:
        """Return the digest of one contig.

        Parameters
        ----------
        name
            Name of the contig.

        Returns
        -------
        str
            sha256, in hex, of the whole upper-case sequence as it stands in the file.

        Raises
        ------
        InputError
            If there is no such contig.
        """
        return self._contig(name).digest

    def fetch(self, chromosome: str, start: int, end: int, strand: str = "+") -> NDArray[np.uint8]:
        """Read a stretch of a contig.

        Parameters
        ----------
        chromosome
            Name of the contig.
        start, end
            0-based, half-open, in nucleotides: ``0 <= start < end <= length``.
        strand
            ``"+"`` (default), or ``"-"`` for the reverse complement. ``"."`` reads as ``"+"``.

        Returns
        -------
        numpy.ndarray
            Shape (end - start,), dtype uint8, upper-case ASCII letters.

        Raises
        ------
        InputError
            If the contig is unknown, the stretch is empty or not wholly inside it, the strand is another letter,
            the file has become shorter since it was opened, or a letter is refused.
        """
        contig = self._contig(chromosome)
        if not 0 <= start < end <= contig.length:
            raise InputError(
                f"{self.path}: asked for {chromosome}:{start}-{end}; the contig has nucleotides 0 to "
                f"{contig.length}, and a stretch must not be empty (0-based, half-open)."
            )
        if strand not in {"+", "-", "."}:
            raise InputError(f"{chromosome}:{start}-{end}: strand is {strand!r}; it must be '+', '-' or '.'.")
        codes = encode(self._faidx.from_file(chromosome, start + 1, end))
        if codes.size != end - start:
            raise InputError(
                f"{self.path}: {chromosome}:{start}-{end} gave {codes.size} nucleotides of {end - start}; the file "
                "has changed since it was opened. Open it again."
            )

        def where(index: int) -> str:
            position = start + index
            return f"{self.path}:{contig.line + position // contig.width}: {chromosome}:{position} (0-based)"

        codes = clean_letters(codes, self._other_letters, where, self._alphabet)
        return reverse_complement(codes) if strand == "-" else codes

    def _contig(self, name: str) -> _Contig:
        try:
            return self._contigs[name]
        except KeyError:
            raise InputError(f"{self.path}: no contig {name!r}.{contig_hint(name, self.contigs)}") from None


def contig_hint(name: str, contigs: Iterable[str]) -> str:
    """Say which contig was probably meant.

    Parameters
    ----------
    name
        The name that is not there.
    contigs
        The names that are.

    Returns
    -------
    str
        A sentence for an error message, with a leading space, that knows of the ``chr1`` and ``1`` habits.

    Examples
    --------
    >>> contig_hint("chr1", ["1", "2"])
    " The genome calls it '1': its names have no 'chr' (another source or build?)."
    """
    known = list(contigs)
    bare = name.removeprefix("chr")
    spellings = [bare, f"chr{bare}", *{"M": ["MT", "chrMT"], "MT": ["M", "chrM"]}.get(bare, [])]
    for spelling in spellings:
        if spelling != name and spelling in known:
            habit = "have 'chr'" if spelling.startswith("chr") else "have no 'chr'"
            return f" The genome calls it {spelling!r}: its names {habit} (another source or build?)."
    return did_you_mean(name, known)


def _open(path: Path, scratch: Path) -> tuple[pyfaidx.Faidx, dict[str, _Contig]]:
    """Open a FASTA file with an index that has been held against every byte of it."""
    import pyfaidx

    plain, packed = _unpack(path, scratch)
    beside = path.with_name(path.name + ".fai")
    kept = not packed and beside.exists()
    # pyfaidx works on a copy: it must neither rebuild the user's index nor leave one that was not checked.
    index = scratch / "index.fai"
    if kept:
        shutil.copyfile(beside, index)
    try:
        faidx = pyfaidx.Faidx(str(plain), indexname=str(index), rebuild=False)
    except (pyfaidx.FastaIndexingError, RuntimeError, ValueError) as error:
        raise InputError(_index_fault(path, plain, beside if kept else None, error)) from error
    try:
        with plain.open("rb") as handle:
            contigs = dict(_check(handle, faidx.index, path, beside if kept else None))
    except BaseException:
        faidx.close()
        raise
    if not kept and not packed:
        _keep_index(index, beside)
    return faidx, contigs


def _unpack(path: Path, scratch: Path) -> tuple[Path, bool]:
    """Return a file of plain text, and whether it had to be unpacked."""
    try:
        with path.open("rb") as handle:
            magic = handle.read(2)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from error
    if not magic:
        raise InputError(f"{path}: the file is empty; a FASTA file with sequences is wanted.")
    if magic != b"\x1f\x8b":
        if path.suffix.lower() in {".gz", ".bgz", ".bz2", ".zip"}:
            raise InputError(f"{path}: is not gzip, whatever its name says. Give a plain or a gzip FASTA file.")
        return path, False
    plain = scratch / "unpacked.fa"
    try:
        with gzip.open(path) as source, plain.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is cut off or damaged ({error}). Fetch it again.") from error
    except OSError as error:
        raise DiskSpaceError(
            f"{path}: cannot be unpacked into {scratch.parent}: {error.strerror}. Set TMPDIR to a disk with more room, "
            "or unpack the file yourself."
        ) from error
    return plain, True


def _index_fault(path: Path, plain: Path, beside: Path | None, error: Exception) -> str:
    """Say why pyfaidx could not make or read an index."""
    seen: dict[str, int] = {}
    with plain.open("rb") as handle:
        for line, text in enumerate(handle, 1):
            if not text.startswith(b">"):
                continue
            name = _name(text)
            if not name:
                return f"{path}:{line}: a header without a name; '>name' is wanted."
            if name in seen:
                return f"{path}:{line}: contig {name!r} again, after line {seen[name]}. Names must be unique."
            seen[name] = line
    if beside is not None:
        return f"{beside}: is not a FASTA index ({error}). Delete it: a new one is made."
    at = re.search(r" at line (\d+)", str(error))
    return f"{path}{':' + at[1] if at else ''}: {str(error).replace(str(plain), path.name)}"


def _name(header: bytes) -> str:
    """Return the first word of a header line."""
    words = header[1:].decode("utf-8", "replace").split()
    return words[0] if words else ""


def _keep_index(index: Path, beside: Path) -> None:
    """Put a checked index beside its FASTA, if the directory can be written."""
    temporary = beside.with_name(f"{beside.name}.{os.getpid()}")
    try:
        shutil.copyfile(index, temporary)
        temporary.replace(beside)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        _log.info("%s is not kept (%s): the index is made again next time.", beside, error.strerror)


def _check(
    handle: BinaryIO, index: Mapping[str, pyfaidx.IndexRecord], path: Path, beside: Path | None
) -> Iterator[tuple[str, _Contig]]:
    """Walk through a FASTA file along its index, and give each contig with its digest.

    The records of a true index tile the file: header, lines of one length, a last line, blank lines, next header.
    """
    size = os.fstat(handle.fileno()).st_size
    header, line = _next_header(handle, 1)
    for row, (name, record) in enumerate(index.items(), 1):
        here = header.startswith(b">") and _name(header) == name and handle.tell() == record.offset
        if here and not record.rlen and beside is None:
            raise InputError(f"{path}:{line}: contig {name!r} has no sequence. Is the file cut off?")
        sane = 0 < record.lenc <= record.lenb and 0 < record.rlen <= size
        digest = hashlib.sha256()
        if not (here and sane and _read_contig(handle, record, digest)):
            raise InputError(_misfit(path, beside, row, name, line))
        yield name, _Contig(record.rlen, line + 1, record.lenc, digest.hexdigest())
        header, line = _next_header(handle, line - (-record.rlen // record.lenc))
    if header:
        raise InputError(_misfit(path, beside, len(index) + 1, _name(header), line))


def _next_header(handle: BinaryIO, line: int) -> tuple[bytes, int]:
    """Read on, from within a given line, past blank lines and comments; return the next line and its number."""
    text = handle.readline()
    while text and (not text.strip() or text.startswith(b";")):
        text, line = handle.readline(), line + 1
    return text, line


def _misfit(path: Path, beside: Path | None, row: int, name: str, line: int) -> str:
    """Say that an index and a file do not fit."""
    if beside is not None:
        return (
            f"{beside}:{row}: does not fit {path.name}, whose line {line} it differs from (contig {name!r}): the "
            "file was changed, cut off or replaced after it was indexed. Check the file; delete the index to have "
            "a new one made."
        )
    return (
        f"{path}:{line}: contig {name!r} is not plain FASTA: its lines must be of one length (the last may be "
        "shorter) and hold letters only, without spaces."
    )


def _read_contig(handle: BinaryIO, record: pyfaidx.IndexRecord, digest: hashlib._Hash) -> bool:
    """Digest a contig line by line as its index record has it; False where the bytes do not fit the record."""
    ending = b"\r\n" if record.lenb - record.lenc == 2 else b"\n"
    rows = (record.rlen - 1) // record.lenc  # without the last line, which may be short or lack its newline
    if rows and record.lenb - record.lenc != len(ending):
        return False
    step = max(1, _CHUNK_BYTES // record.lenb)
    for done in range(0, rows, step):
        count = min(step, rows - done)
        block = np.frombuffer(handle.read(count * record.lenb), np.uint8)
        if block.size != count * record.lenb:
            return False
        block = block.reshape(count, record.lenb)
        if (block[:, record.lenc :] != np.frombuffer(ending, np.uint8)).any():
            return False
        if not _digest_letters(block[:, : record.lenc], digest):
            return False
    last = np.frombuffer(handle.read(record.rlen - rows * record.lenc), np.uint8)
    return last.size == record.rlen - rows * record.lenc and _digest_letters(last, digest)


def _digest_letters(block: NDArray[np.uint8], digest: hashlib._Hash) -> bool:
    """Digest upper-case letters; False where there is a line end, a space or a header among them."""
    if (block <= ord(" ")).any() or (block == ord(">")).any():
        return False
    digest.update(block.tobytes().upper())
    return True
