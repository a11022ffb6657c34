"""Stores on an S3 server: zarr over obstore against zarr over fsspec (s3fs), with and without a slow connection.

The server is moto's on loopback, a process of its own. A pause before each request stands for the way to a real one.
Both write the same blocks through zarr's Store API, as `embedstore.objects.put` does, and read them with zarr.

    pip install s3fs        # for the comparison
    PYTHONPATH=tests/helpers python benchmarks/remote.py
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import time
from typing import Any

import numpy as np
import s3
import zarr
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore

from embedstore.layout import create_array
from embedstore.remote import open_remote
from embedstore.shards import shard_parts

ROWS, CHANNELS, CHUNK = 8192, 512, 384  # of a block; 8 MiB in float16, chunks of 384 KiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pauses", type=float, nargs="*", default=[0.0, 0.03], help="seconds before each request")
    arguments = parser.parse_args()
    shard = ROWS // CHUNK * CHUNK
    rows = np.random.default_rng(0).normal(size=(shard, CHANNELS)).astype(np.float16)
    content = b"".join(bytes(p) if isinstance(p, bytes) else p.tobytes() for p in shard_parts(rows, CHUNK, shard))
    with s3.running() as proxy:
        for pause in arguments.pauses:
            for name, opened in stores(proxy).items():
                proxy.delay = 0.0
                group = zarr.create_group(opened, overwrite=True)
                shape = (arguments.blocks * shard, CHANNELS)
                create_array(
                    group, "vector", shape, dtype="float16", chunks=(CHUNK, CHANNELS), shards=(shard, CHANNELS)
                )
                proxy.delay = pause
                runs = [measure(opened, content, arguments.blocks, shard) for _ in range(arguments.repeats)]
                middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
                cells = "  ".join(f"{key} {value:7.3f} s" for key, value in middle.items())
                print(f"pause {pause * 1000:3.0f} ms  {name:8}  {cells}", flush=True)


def stores(proxy: s3.Proxy) -> dict[str, Any]:
    """Return a store through each library."""
    found: dict[str, Any] = {"obstore": open_remote(f"s3://{s3.BUCKET}/obstore.zarr", read_only=False)}
    with contextlib.suppress(ImportError):
        import s3fs

        place = {"endpoint_url": f"http://127.0.0.1:{proxy.port}"}
        system = s3fs.S3FileSystem(key="test", secret="test", client_kwargs=place, asynchronous=True)
        found["s3fs"] = FsspecStore(system, path=f"{s3.BUCKET}/s3fs.zarr")
    return found


def measure(opened: Any, content: bytes, blocks: int, shard: int) -> dict[str, float]:
    """Write, open and read once; seconds of each."""
    buffer = default_buffer_prototype().buffer.from_bytes(content)
    clock = {}
    begun = time.perf_counter()
    for block in range(blocks):
        sync(opened.set(f"vector/c/{block}/0", buffer))
    clock["write"] = time.perf_counter() - begun
    begun = time.perf_counter()
    array = zarr.open_array(opened, path="vector", mode="r", zarr_format=3)
    clock["open"] = time.perf_counter() - begun
    begun = time.perf_counter()
    for block in range(blocks):
        array[block * shard : (block + 1) * shard]
    clock["blocks"] = time.perf_counter() - begun
    begun = time.perf_counter()
    for start in np.random.default_rng(1).integers(0, blocks * shard - 86, 64).tolist():
        array[start : start + 86]
    clock["64 random samples"] = time.perf_counter() - begun
    begun = time.perf_counter()
    sync(small(opened))
    clock["64 small objects at once"] = time.perf_counter() - begun
    return clock


async def small(opened: Any) -> None:
    """Write and read back small objects, many at a time."""
    prototype = default_buffer_prototype()
    buffer = prototype.buffer.from_bytes(b"x" * 1000)
    await asyncio.gather(*(opened.set(f"small/{number}", buffer) for number in range(64)))
    await asyncio.gather(*(opened.get(f"small/{number}", prototype) for number in range(64)))


if __name__ == "__main__":
    main()
