"""Bytes on the disk: other libraries decode them, a crash leaves a whole file or none, and one writer wins."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from embedstore import shards
from embedstore.errors import BlockTakenError, DiskSpaceError
from embedstore.layout import create_array
from embedstore.shards import TEMPORARY, chunk_parts, claim, shard_parts, sync_tree, write_durable


def names(folder) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def flushed_path(handle: int) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())


def joined(parts) -> bytes:
    return b"".join(bytes(part) for part in parts)


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(0, 24),
    channels=st.integers(1, 5),
    chunk_rows=st.sampled_from([1, 3, 8, 24]),
    dtype=st.sampled_from(["float16", "float32"]),
    codec=st.sampled_from(["none", "zstd"]),
)
def test_zarr_decodes_every_shard(tmp_path_factory, rows, channels, chunk_rows, dtype, codec):
    """The second of two shards; pad rows, and chunks that are absent, read as NaN."""
    group = zarr.create_group(tmp_path_factory.mktemp("shard"))
    shape = (48, channels)
    inner, shard = (chunk_rows, channels), (24, channels)
    array = create_array(group, "vector", shape, dtype=dtype, chunks=inner, shards=shard, codec=codec)
    values = np.random.default_rng(rows).normal(size=(rows, channels)).astype(dtype)
    file = Path(str(group.store.root), "vector", "c", "1", "0")
    size = write_durable(file, shard_parts(values, chunk_rows, 24, codec))
    assert file.stat().st_size == size
    np.testing.assert_array_equal(array[24 : 24 + rows], values)
    assert np.isnan(array[24 + rows :]).all()
    assert np.isnan(array[:24]).all()


@pytest.mark.parametrize("codec", ["none", "zstd"])
@pytest.mark.parametrize("dtype", ["uint16", "float32", ">f4", "uint32"])
def test_zarr_decodes_every_chunk(tmp_path, codec, dtype):
    group = zarr.create_group(tmp_path)
    values = np.arange(12).astype(dtype).reshape(4, 3)
    native = values.dtype.newbyteorder("=")
    array = create_array(group, "x", (8, 3), dtype=native, dims=("a", "b"), chunks=(4, 3), codec=codec)
    write_durable(tmp_path / "x" / "c" / "1" / "0", chunk_parts(values[:, ::-1], codec))  # not contiguous
    np.testing.assert_array_equal(array[4:], values[:, ::-1])


def test_full_chunks_are_not_copied():
    rows = np.zeros((8, 2), np.float32)
    parts = [part for part in shard_parts(rows, 4, 16) if isinstance(part, np.ndarray) and part.nbytes == 32]
    assert len(parts) == 2
    assert all(np.shares_memory(part, rows) for part in parts)


# ---- durable files -------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(st.lists(st.binary(max_size=30) | st.lists(st.integers(0, 99), max_size=5).map(np.array), max_size=5))
def test_what_is_written_is_what_was_given(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("d") / "a" / "b" / "file"
    assert write_durable(path, parts) == len(joined(parts))
    assert path.read_bytes() == joined(parts)
    assert write_durable(path, [b"other"]) == 5  # replaces
    assert path.read_bytes() == b"other"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_exclusive_files_are_written_once(tmp_path):
    assert write_durable(tmp_path / "x", [b"first"], exclusive=True) == 5
    with pytest.raises(BlockTakenError, match=r"x exists: another run has written it"):
        write_durable(tmp_path / "x", [b"second"], exclusive=True)
    assert (tmp_path / "x").read_bytes() == b"first"
    assert names(tmp_path) == ["x"]


class Disk(io.FileIO):
    """A file that writes three bytes at a time and fails after some."""

    room = 10**9

    def write(self, data):
        if self.tell() >= self.room:
            raise OSError(self.error, os.strerror(self.error))
        return super().write(memoryview(data)[:3])


@pytest.fixture
def disk(monkeypatch):
    real = Path.open
    writes = lambda path, mode="r", **options: Disk(path, "wb") if mode == "wb" else real(path, mode, **options)  # noqa: E731
    monkeypatch.setattr(Path, "open", writes)
    return Disk


def test_short_writes_go_on(tmp_path, disk):
    assert write_durable(tmp_path / "x", [b"0123456789", np.arange(5, dtype=np.uint16)]) == 20
    assert (tmp_path / "x").read_bytes() == b"0123456789" + np.arange(5, dtype="<u2").tobytes()


@pytest.mark.parametrize(
    ("error", "kind", "match"),
    [
        (errno.ENOSPC, DiskSpaceError, "disk is full: writing .*x stopped after 6 bytes. Blocks committed before"),
        (errno.EDQUOT, DiskSpaceError, "Free some space and run the same command again"),
        (errno.EIO, OSError, "Input/output error"),
    ],
)
@pytest.mark.parametrize("exclusive", [True, False])
def test_a_failing_disk_leaves_nothing(tmp_path, disk, monkeypatch, error, kind, match, exclusive):
    monkeypatch.setattr(disk, "room", 6)
    monkeypatch.setattr(disk, "error", error, raising=False)
    with pytest.raises(kind, match=match):
        write_durable(tmp_path / "x", [b"0123456789"], exclusive=exclusive)
    assert names(tmp_path) == []


def test_a_stop_in_the_middle_leaves_the_file_before(tmp_path):
    def parts():
        yield b"half"
        assert [name.endswith(TEMPORARY) for name in names(tmp_path)] == [False, True]
        raise KeyboardInterrupt

    write_durable(tmp_path / "x", [b"before"])
    with pytest.raises(KeyboardInterrupt):
        write_durable(tmp_path / "x", parts())
    assert (tmp_path / "x").read_bytes() == b"before"
    assert names(tmp_path) == ["x"]


def test_the_name_comes_after_the_bytes_are_on_the_disk(tmp_path, monkeypatch):
    """The order that a power cut needs: bytes flushed, then the name, then the folder flushed."""
    events = []
    monkeypatch.setattr(os, "fsync", lambda handle: events.append(flushed_path(handle)))
    real = Path.replace
    monkeypatch.setattr(Path, "replace", lambda path, to: events.append("named") or real(path, to))
    write_durable(tmp_path / "new" / "x", [b"1"])
    made, flushed, named, listed = events
    assert made == str(tmp_path)
    assert flushed.endswith(TEMPORARY)
    assert (named, listed) == ("named", str(tmp_path / "new"))


def test_sync_tree_flushes_files_and_folders(tmp_path, monkeypatch):
    write_durable(tmp_path / "a" / "file", [b"1"])
    write_durable(tmp_path / "top", [b"1"])
    seen = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append(flushed_path(handle)))
    sync_tree(tmp_path)
    assert {Path(one) for one in seen} == {tmp_path, tmp_path / "top", tmp_path / "a", tmp_path / "a" / "file"}
    seen.clear()
    sync_tree(tmp_path, below=False)
    assert {Path(one) for one in seen} == {tmp_path, tmp_path / "top"}


# ---- claims --------------------------------------------------------------------------------------


def test_a_second_claim_is_refused_and_everything_is_cleared_away(tmp_path):
    lock = tmp_path / ".locks" / "b.lock"
    with claim(lock, "block 7"):
        with pytest.raises(BlockTakenError, match="Another run is writing block 7. Wait until"), claim(lock, "block 7"):
            pass
        with claim(tmp_path / ".locks" / "other.lock", "block 8"):
            pass
        assert lock.exists()  # letting go of another one leaves this one alone
        with pytest.raises(BlockTakenError), claim(lock, "block 7"):
            pass
    assert names(tmp_path) == []
    with contextlib.suppress(RuntimeError), claim(lock, "block 7"):
        raise RuntimeError
    with claim(lock, "block 7"):
        pass
    assert names(tmp_path) == []


def test_threads_hold_a_claim_one_at_a_time(tmp_path):
    """Files and folder come and go under many hands; never two holders."""
    holders, most, held, errors = [], [0], [0], []

    def work() -> None:
        for _ in range(60):
            try:
                with claim(tmp_path / ".locks" / "x", "x"):
                    holders.append(1)
                    most[0] = max(most[0], len(holders))
                    held[0] += 1
                    holders.pop()
            except BlockTakenError:
                continue
            except BaseException as error:
                errors.append(error)
                raise

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert most[0] == 1
    assert held[0] > 6
    assert names(tmp_path) == []


def test_the_system_lets_go_when_a_process_is_killed(tmp_path):
    lock = tmp_path / ".locks" / "x"
    code = f"""
import sys, time
from pathlib import Path
from embedstore.shards import claim
with claim(Path({str(lock)!r}), "x"):
    print("held", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(BlockTakenError), claim(lock, "x"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert lock.exists()  # what is left of it
        with claim(lock, "x"):
            pass
    assert names(tmp_path) == []


def test_a_lock_that_lost_its_name_is_taken_anew(tmp_path, monkeypatch):
    """Another run may remove the file, or the folder, between opening and locking it."""
    import fcntl

    lock = tmp_path / ".locks" / "x"
    real_lock, real_open, removed = fcntl.flock, os.open, []

    def flock(handle, how):
        real_lock(handle, how)
        if len(removed) == 0:
            lock.unlink()
            removed.append("file")
        elif len(removed) == 1:
            lock.unlink()
            lock.touch()  # another file of that name
            removed.append("replaced")

    def opening(path, *rest):
        if len(removed) == 2 and Path(path) == lock:
            removed.append("folder")
            lock.unlink()
            lock.parent.rmdir()
            raise FileNotFoundError(path)
        return real_open(path, *rest)

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(shards.os, "open", opening)
    handles = len(names("/proc/self/fd"))
    with claim(lock, "x"):
        assert lock.exists()
        with pytest.raises(BlockTakenError), claim(lock, "x"):
            pass
    assert removed == ["file", "replaced", "folder"]
    assert len(names("/proc/self/fd")) == handles
    assert names(tmp_path) == []


def test_exclusive_writes_on_a_disk_without_hard_links(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    shards.write_durable(tmp_path / "a", [b"one"], exclusive=True)
    with pytest.raises(BlockTakenError, match="another run has written it"):
        shards.write_durable(tmp_path / "a", [b"two"], exclusive=True)
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("a", b"one")]

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", broken)
    with pytest.raises(OSError, match="Input/output"):
        shards.write_durable(tmp_path / "b", [b"one"], exclusive=True)
