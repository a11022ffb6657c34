from __future__ import annotations

import gzip
import hashlib
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from Bio import SeqIO, bgzf
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore import genome as genome_module
from embedstore.errors import DiskSpaceError, InputError
from embedstore.genome import Genome
from embedstore.sequences import decode

CONTIGS = {"chr1": "ACGTACGTNNacgtTTGCA", "chr2": "GGGCCC", "chrM": "ATATATATAT"}


def fasta_text(contigs=CONTIGS, width=8, end="\n"):
    lines = []
    for name, text in contigs.items():
        lines.append(f">{name} a description")
        lines += [text[start : start + width] for start in range(0, len(text), width)]
    return end.join(lines) + end


@pytest.fixture
def fasta(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_text(fasta_text())
    return path


def refused(path, *words, **options):
    with pytest.raises(InputError) as caught:
        Genome(path, **options)
    for word in words:
        assert word in str(caught.value)


def check_all(genome, contigs):
    """Every stretch of every contig, against the texts it was made of."""
    assert genome.contigs == {name: len(text) for name, text in contigs.items()}
    for name, text in contigs.items():
        assert genome.contig_digest(name) == hashlib.sha256(text.upper().encode()).hexdigest()
        for start in range(len(text)):
            for end in range(start + 1, len(text) + 1):
                assert decode(genome.fetch(name, start, end)) == text[start:end].upper()


@pytest.mark.parametrize("width", [1, 5, 8, 100])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("ending", ["whole", "no newline at the end", "blank lines", "comment first"])
def test_every_stretch_is_read_right(tmp_path, width, end, ending):
    text = fasta_text(width=width, end=end)
    if ending == "no newline at the end":
        text = text.rstrip("\r\n")
    elif ending == "blank lines":
        text = text.replace(">chrM", "\n>chrM")
    elif ending == "comment first":
        text = f"; made by hand{end}{text}"
    path = tmp_path / "genome.fa"
    path.write_bytes(text.encode())
    for _ in range(2):  # the second time with the index that the first one kept
        with Genome(path) as genome:
            check_all(genome, CONTIGS)
    assert (tmp_path / "genome.fa.fai").exists()


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text("ACGTNacgtn", min_size=1, max_size=60), min_size=1, max_size=4),
    width=st.integers(1, 70),
    packed=st.sampled_from(["no", "gzip", "bgzip"]),
    data=st.data(),
)
def test_any_fasta_reads_as_biopython_reads_it(tmp_path_factory, texts, width, packed, data):
    path = tmp_path_factory.mktemp("fasta") / ("g.fa" if packed == "no" else "g.fa.gz")
    plain = fasta_text({f"c{number}": text for number, text in enumerate(texts)}, width)
    if packed == "bgzip":
        with bgzf.BgzfWriter(str(path)) as file:
            file.write(plain)
    else:
        path.write_bytes(gzip.compress(plain.encode()) if packed == "gzip" else plain.encode())
    with gzip.open(path, "rt") if packed != "no" else path.open() as file:
        wanted = {record.id: record.seq.upper() for record in SeqIO.parse(file, "fasta")}
    with Genome(path) as genome:
        name = data.draw(st.sampled_from(sorted(wanted)))
        start = data.draw(st.integers(0, len(wanted[name]) - 1))
        end = data.draw(st.integers(start + 1, len(wanted[name])))
        assert decode(genome.fetch(name, start, end)) == str(wanted[name][start:end])
        assert decode(genome.fetch(name, start, end, "-")) == str(wanted[name][start:end].reverse_complement())


def test_long_contigs_are_digested_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(genome_module, "_CHUNK_BYTES", 64)
    text = "".join(np.random.default_rng(0).choice(list("ACGT"), 2003))
    path = tmp_path / "g.fa"
    path.write_text(fasta_text({"c": text}, width=10))
    with Genome(path) as genome:
        assert genome.contig_digest("c") == hashlib.sha256(text.encode()).hexdigest()
        assert decode(genome.fetch("c", 0, 2003)) == text


def test_genome_digest_knows_the_contigs_and_nothing_else(tmp_path):
    lines = sorted(
        f"{name}\t{len(text)}\t{hashlib.sha256(text.upper().encode()).hexdigest()}\n" for name, text in CONTIGS.items()
    )
    wanted = hashlib.sha256("".join(lines).encode()).hexdigest()
    variants = {
        "plain.fa": fasta_text().encode(),
        "narrow.fa": fasta_text(width=3, end="\r\n").encode(),
        "upper.fa": fasta_text({name: text.upper() for name, text in CONTIGS.items()}).encode(),
        "turned.fa": fasta_text(dict(reversed(CONTIGS.items()))).encode(),
        "packed.fa.gz": gzip.compress(fasta_text().encode()),
    }
    for name, content in variants.items():
        (tmp_path / name).write_bytes(content)
        assert Genome(tmp_path / name).digest == wanted
    (tmp_path / "other.fa").write_text(fasta_text().replace("GGGCCC", "GGGCCA"))
    assert Genome(tmp_path / "other.fa").digest != wanted


def test_the_kept_index_is_that_of_samtools(fasta):
    Genome(fasta).close()
    # Worked out by hand from the format of `samtools faidx`: name, length, offset, nucleotides and bytes of a line.
    assert Path(f"{fasta}.fai").read_text() == "chr1\t19\t20\t8\t9\nchr2\t6\t62\t6\t7\nchrM\t10\t89\t8\t9\n"


def test_nothing_is_kept_beside_a_packed_file_nor_left_behind(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    path = tmp_path / "data" / "g.fa.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(fasta_text().encode()))
    with Genome(path) as genome:
        check_all(genome, CONTIGS)
        assert list(scratch.iterdir()) == []
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_is_no_obstacle(fasta, monkeypatch, caplog):
    def copy(source, target):
        if Path(target).parent == fasta.parent:
            raise PermissionError(13, "Permission denied")
        return shutil.copy(source, target)

    monkeypatch.setattr(genome_module.shutil, "copyfile", copy)
    with caplog.at_level(logging.INFO), Genome(fasta) as genome:
        check_all(genome, CONTIGS)
    assert list(fasta.parent.iterdir()) == [fasta]
    assert "is not kept (Permission denied)" in caplog.text


STALE = {
    "cut off": lambda text: text[:-5],
    "cut off in the middle": lambda text: text[:30],
    "another line width": lambda text: fasta_text(width=9),
    "other line ends": lambda text: fasta_text(end="\r\n"),
    "other lengths": lambda text: text.replace("GGGCCC", "GGGCC"),
    "another name": lambda text: text.replace(">chr2", ">chr3"),
    "another description": lambda text: text.replace(">chr2 a description", ">chr2 no description"),
    "one contig more": lambda text: text + ">chr9\nACGT\n",
    "one contig less": lambda text: text[: text.index(">chrM")],
    "contigs in another order": lambda text: fasta_text(dict(reversed(CONTIGS.items()))),
    "lines broken elsewhere": lambda text: text.replace("ACGTACGT\nNNacgtTT\nGCA", "ACGTACG\nTNNacgtTT\nGCA"),
    "line ends became letters": lambda text: text.replace("ACGTACGT\nNNacgtTT\nGCA", "ACGTACGTANNacgtTTAGCA"),
    "text at the end": lambda text: text + "ACGT\n",
    "a longer last line": lambda text: text.replace("\nAT\n", "\nATAT\n"),
    "a line lost": lambda text: text.replace("NNacgtTT\n", ""),
}


@pytest.mark.parametrize("change", STALE)
@pytest.mark.parametrize("age", ["older", "newer"])
def test_an_index_that_does_not_fit_is_refused_whatever_its_date(fasta, change, age):
    Genome(fasta).close()
    fasta.write_text(STALE[change](fasta.read_text()), newline="")
    seconds = fasta.stat().st_mtime + (1000 if age == "newer" else -1000)
    os.utime(f"{fasta}.fai", (seconds, seconds))
    before = Path(f"{fasta}.fai").read_bytes()
    refused(fasta, "genome.fa.fai:", "does not fit genome.fa", "delete the index")
    assert Path(f"{fasta}.fai").read_bytes() == before


def test_an_older_index_that_fits_is_good(fasta):
    Genome(fasta).close()
    os.utime(f"{fasta}.fai", (1, 1))
    with Genome(fasta) as genome:
        check_all(genome, CONTIGS)


@pytest.mark.parametrize(
    "index",
    [
        "",
        "chr1\t19\t20\t8\n",
        "chr1\t1e9\t20\t8\t9\n",
        "chr1\t19\t20\t0\t9\n",
        "chr1\t19\t20\t8\t1000000000000000000\n",
        "chr1\t1000000000000000000\t20\t8\t9\n",
        "chr1\t1000000000000000000\t20\t1000000000000000000\t1000000000000000001\n",
        "chr1\t-19\t20\t8\t9\n",
        "chr1\t0\t20\t8\t9\n",
        "chr1\t19\t20\t8\t9\nchr1\t19\t20\t8\t9\n",
    ],
)
def test_a_damaged_index_is_refused(fasta, index):
    Path(f"{fasta}.fai").write_text(index)
    refused(fasta, "genome.fa.fai", "elete ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["empty"]),
        (b"\n\n", ["does not contain a valid sequence"]),
        (b"ACGT\n", [":1: ", "before the first sequence"]),
        (b">\nACGT\n", [":1: ", "header without a name"]),
        (b">a\nACGT\n>  \nACGT\n", [":3: ", "header without a name"]),
        (b">a\nACGT\n>b\n>c\nACGT\n", [":3: ", "'b' has no sequence"]),
        (b">a\nACGT\n>b\n", [":3: ", "'b' has no sequence"]),
        (b">a\nACGT\n>b\nAC\n>a x\nGG\n", [":5: ", "'a' again, after line 1"]),
        (b">a\nACGT\nAC\nACGT\n", [":3: ", "not consistent"]),
        (b">a\nACGT\nACGT\nACGTAC\n", [":1: ", "one length"]),
        (b">a\nAC GT\n", [":1: ", "without spaces"]),
        (b">a\nACGT\nA GT\nACGT\n", [":1: ", "without spaces"]),
        (b">a\nACGT\n>b\nAC>T\n", [":3: ", "letters only"]),
        (b">a\nACGT\r\nACGT\nACGT\n", ["not consistent"]),
        (b">a\nAC\n\n\nGT\n", ["not consistent"]),
        (b">\xff\nACGT\n", ["utf-8"]),
    ],
)
def test_files_that_are_not_fasta_are_refused(tmp_path, content, words):
    path = tmp_path / "bad.fa"
    path.write_bytes(content)
    refused(path, str(path), *words)
    assert list(tmp_path.iterdir()) == [path]


def test_missing_and_mispacked_files_are_refused(tmp_path):
    refused(tmp_path / "no.fa", "no.fa: cannot be read: No such file")
    refused(tmp_path, "Is a directory")
    packed = gzip.compress(fasta_text().encode() * 50)
    (tmp_path / "cut.fa.gz").write_bytes(packed[:-20])
    refused(tmp_path / "cut.fa.gz", "cut off or damaged")
    (tmp_path / "flipped.fa.gz").write_bytes(packed[:40] + bytes([packed[40] ^ 255]) + packed[41:])
    refused(tmp_path / "flipped.fa.gz", "cut off or damaged")
    (tmp_path / "plain.fa.gz").write_text(fasta_text())
    refused(tmp_path / "plain.fa.gz", "is not gzip")


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    path = tmp_path / "g.fa.gz"
    path.write_bytes(gzip.compress(fasta_text().encode()))
    monkeypatch.setattr(genome_module.shutil, "copyfileobj", full)
    with pytest.raises(DiskSpaceError, match=r"g.fa.gz: cannot be unpacked into .*: No space left.*TMPDIR"):
        Genome(path)


def test_a_packed_file_needs_no_name_that_says_so(tmp_path):
    path = tmp_path / "genome.fa"
    path.write_bytes(gzip.compress(fasta_text().encode()))
    with Genome(path) as genome:
        check_all(genome, CONTIGS)


@pytest.mark.parametrize(("start", "end"), [(-1, 5), (0, 0), (5, 4), (0, 20), (19, 20)])
def test_stretches_that_are_not_wholly_inside_are_refused(fasta, start, end):
    with Genome(fasta) as genome, pytest.raises(InputError, match=f"chr1:{start}-{end}.*0 to 19"):
        genome.fetch("chr1", start, end)


def test_strands(fasta):
    with Genome(fasta) as genome:
        assert decode(genome.fetch("chr2", 0, 6, ".")) == "GGGCCC"
        assert decode(genome.fetch("chr1", 0, 2, "-")) == "GT"
        with pytest.raises(InputError, match="strand is '1'"):
            genome.fetch("chr2", 0, 6, "1")


@pytest.mark.parametrize(
    ("contigs", "asked", "hint"),
    [
        (["1", "2"], "chr1", "calls it '1': its names have no 'chr'"),
        (["chr1", "chr2"], "1", "calls it 'chr1': its names have 'chr'"),
        (["MT"], "chrM", "calls it 'MT'"),
        (["chrM"], "MT", "calls it 'chrM'"),
        (["Chr1"], "chr1", "Did you mean 'Chr1'"),
        (["scaffold_17"], "chr1", "Known: scaffold_17"),
    ],
)
def test_a_missing_contig_gets_a_hint(tmp_path, contigs, asked, hint):
    path = tmp_path / "g.fa"
    path.write_text(fasta_text(dict.fromkeys(contigs, "ACGT")))
    with Genome(path) as genome:
        for call in (lambda: genome.fetch(asked, 0, 1), lambda: genome.contig_digest(asked)):
            with pytest.raises(InputError, match=f"g.fa: no contig '{asked}'. .*{hint}"):
                call()


def test_odd_letters_are_refused_with_line_and_place_or_read_as_n(tmp_path):
    path = tmp_path / "g.fa"
    path.write_text(fasta_text({"a": "ACGTACGT" * 2, "b": "ACGTACGTACGrTTU"}))
    with Genome(path) as genome:
        assert decode(genome.fetch("b", 0, 11)) == "ACGTACGTACG"
        with pytest.raises(InputError, match=r"g.fa:6: b:11 \(0-based\): letter 'R'.*other_letters='N'"):
            genome.fetch("b", 9, 15)
    with Genome(path, other_letters="N") as genome:
        assert decode(genome.fetch("b", 8, 15)) == "ACGNTTN"
        assert decode(genome.fetch("b", 8, 15, "-")) == "NAANCGT"
        assert genome.contig_digest("b") == hashlib.sha256(b"ACGTACGTACGRTTU").hexdigest()
    refused(path, "must be 'refuse' or 'N'", other_letters="drop")


def test_a_file_that_shrinks_while_open_is_noticed(fasta):
    with Genome(fasta) as genome:
        os.truncate(fasta, 40)
        with pytest.raises(InputError, match="has changed since it was opened"):
            genome.fetch("chrM", 0, 10)


def test_repr_says_what_is_open(fasta):
    with Genome(fasta) as genome:
        assert repr(genome) == f"Genome({str(fasta)!r}: 3 contigs, 35 nucleotides)"


def test_memory_does_not_grow_with_the_genome(tmp_path):
    path = tmp_path / "big.fa"
    line = b"ACGT" * 15 + b"\n"
    with path.open("wb") as file:
        file.write(b">big\n" + line * 1_600_000)
    script = (
        "import resource, sys\n"
        "from embedstore.genome import Genome\n"
        "import pyfaidx, numpy\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        "with Genome(sys.argv[1]) as genome:\n"
        "    assert genome.fetch('big', 95_999_990, 96_000_000).tobytes() == b'GTACGTACGT'\n"
        "print((peak() - before) / 1024)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 80  # MiB; the file is 93 and its only contig 92
