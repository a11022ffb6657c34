"""Stores on servers: written and read over S3, read over HTTP, listed, verified, repaired; and what goes wrong."""

from __future__ import annotations

import pickle
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import s3
import xarray as xr
import zarr
from toys import ToyModel, random_sequences

import embedstore
from embedstore import describe, locations, objects, remote, tasks
from embedstore.errors import CorruptError, FingerprintError, InputError, NotInStoreError, RemoteError, StoreError

LENGTHS = np.random.default_rng(1).integers(20, 120, 24)


def task(name: str = "t", seed: int = 2) -> tasks.Task:
    return tasks.from_sequences(name, random_sequences(LENGTHS, seed=seed))


@pytest.fixture(scope="module")
def server():
    with s3.running() as proxy:
        yield proxy


@pytest.fixture
def url(server, many_blocks, request):
    server.heal()
    return f"s3://{s3.BUCKET}/{request.node.name.split('[')[0]}.zarr"


@pytest.fixture
def embedded(url):
    store = embedstore.open_store(url, mode="a")
    store.add_task(task())
    embedstore.embed(store, "t", ToyModel(), progress=False)
    return store


def local(path):
    store = embedstore.open_store(path, mode="a")
    store.add_task(task())
    embedstore.embed(store, "t", ToyModel(), progress=False)
    return store


# ---- S3 ------------------------------------------------------------------------------------------


def test_a_store_on_s3_holds_what_a_local_one_holds(embedded, url, tmp_path):
    near = local(tmp_path / "s.zarr")
    far = embedstore.open_store(url + "/")
    assert (far.path, far.local, far.tasks(), far.models("t")) == (url, None, ["t"], ["toy"])
    assert far.open("t", "toy").equals(near.open("t", "toy"))
    assert far.verify().sound
    # Byte for byte, but for what tells of the run.
    theirs = {name for name in objects.names(far, "t") if "/run/" not in name}
    assert theirs == {name for name in objects.names(near, "t") if "/run/" not in name}
    for name in theirs:
        if not name.endswith("zarr.json"):
            assert far.zarr_store.store.get(name).bytes() == (near.local / name).read_bytes()
    sizes = [item["stored_bytes"] for item in describe.contents(far)]
    assert all(0 < size < 10**6 for size in sizes)
    again = pickle.loads(pickle.dumps(far))
    assert again.open("t", "toy").equals(near.open("t", "toy"))
    assert pickle.loads(pickle.dumps(far.zarr_store)).url == url


def test_xarray_reads_it_by_its_consolidated_metadata(embedded, url):
    opened = xr.open_zarr(embedded.zarr_store, group="t/embedding/toy", consolidated=True)
    assert opened["pooled"].shape == (24, 8)


def test_adding_again_changes_nothing_and_removes_nothing(embedded, url, server):
    server.heal()
    server.denied = ("DELETE", "POST")
    other = embedstore.open_store(url, mode="a")
    other.add_task(task())
    with pytest.raises(FingerprintError, match="made from something else"):
        other.add_task(task(seed=3))
    report = embedstore.embed(other, "t", ToyModel(), progress=False)
    assert (report.blocks, report.blocks_before) == (0, embedded.embedding("t", "toy").blocks)


def test_an_unfinished_task_is_taken_up_and_another_one_refused(url):
    store = embedstore.open_store(url, mode="a")
    store.add_task(task())
    objects.remove(store, "t/zarr.json")
    assert store.tasks() == []
    store.add_task(task())
    assert store.tasks() == ["t"]
    assert store.verify().sound
    objects.remove(store, "t/zarr.json")
    longer = tasks.from_sequences("t", random_sequences([50] * 30))
    with pytest.raises(StoreError, match=r"first_nucleotide is there with another shape.*run `embedstore repair`"):
        store.add_task(longer)
    assert list(store.repair()["path"]) == ["t"]
    store.add_task(longer)
    assert len(store.samples("t")) == 30


def test_an_unfinished_embedding_is_taken_up(embedded, url):
    objects.remove(embedded, "t/embedding/toy/zarr.json")
    store = embedstore.open_store(url, mode="a")
    assert store.models("t") == []
    embedstore.embed(store, "t", ToyModel(), progress=False)
    assert store.verify().sound
    objects.remove(embedded, "t/embedding/toy/zarr.json")
    with pytest.raises(StoreError, match=r"toy/vector is there with another shape, data type or codec"):
        embedstore.embed(store, "t", ToyModel(), dtype="float32", progress=False)
    done = store.repair()
    assert list(done["path"]) == ["t/embedding/toy"]
    embedstore.embed(store, "t", ToyModel(), dtype="float32", progress=False)
    assert store.verify().sound


def test_two_open_a_new_store_at_once(url):
    opened, errors = [], []

    def work():
        try:
            opened.append(embedstore.open_store(url, mode="a"))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(opened) == 6
    assert embedstore.open_store(url).tasks() == []


@pytest.mark.parametrize("array", ["vector", "pooled", "commit"])
def test_damage_is_found_and_repaired(embedded, url, array):
    key = f"t/embedding/toy/{array}/c/1/0"
    content = bytearray(embedded.zarr_store.store.get(key).bytes())
    content[9] ^= 1
    objects.put(embedded, key, [bytes(content)])
    store = embedstore.open_store(url, mode="a")
    problems = store.verify().problems
    assert list(problems["block"]) == [1]
    done = store.repair()
    assert f"t/embedding/toy/{array}/c/1/0" in list(done["path"])
    assert all(re.fullmatch(r"t/embedding/toy/\w+/c/1(/0)?", path) for path in done["path"])
    emb = store.embedding("t", "toy")
    assert emb.missing() == [1]
    embedstore.embed(store, "t", ToyModel(), progress=False)
    assert store.verify().sound
    with pytest.raises(StoreError, match="open for reading. Open it with mode='a' to repair"):
        embedstore.open_store(url).repair()


def test_a_damaged_task_is_dropped_and_added_again(embedded, url):
    objects.put(embedded, "t/sequence/c/0", [b"nothing"])
    store = embedstore.open_store(url, mode="a")
    assert not store.verify().sound
    assert list(store.repair()["path"]) == ["t"]
    assert store.tasks() == []
    store.add_task(task())
    assert store.models("t") == ["toy"]
    assert store.verify().sound


def test_a_network_fault_is_not_damage(embedded, url, server, monkeypatch):
    monkeypatch.setenv("EMBEDSTORE_RETRY_SECONDS", "0.2")
    store = embedstore.open_store(url)
    emb = store.embedding("t", "toy")
    server.dead = True
    for read in (store.tasks, store.verify, lambda: emb.read_block(0), lambda: objects.names(store, "t")):
        with pytest.raises(RemoteError, match=f"{url}: (reading|listing) .* failed: .*error sending request"):
            read()
    server.heal()
    assert store.verify().sound


def test_a_silent_server_is_given_up(url, server, monkeypatch):
    monkeypatch.setenv("EMBEDSTORE_RETRY_SECONDS", "0")
    monkeypatch.setenv("EMBEDSTORE_TIMEOUT_SECONDS", "0.3")
    server.delay = 1.0
    with pytest.raises(RemoteError, match=f"{url}: reading .* failed"):
        embedstore.open_store(url)
    server.heal()


def test_no_store_and_no_bucket(url):
    with pytest.raises(NotInStoreError, match=f"There is no store at {url}"):
        embedstore.open_store(url)
    with pytest.raises(RemoteError, match="writing 'zarr.json' failed.*does not exist.*Create the bucket first"):
        embedstore.open_store("s3://nobucket/s.zarr", mode="a")


def test_a_server_without_conditional_writes(url, monkeypatch):
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    store = embedstore.open_store(url, mode="a")
    assert objects.put(store, "a", [b"x"], exclusive=True) == 1
    with pytest.raises(embedstore.errors.BlockTakenError):
        objects.put(store, "a", [b"y"], exclusive=True)


@pytest.mark.parametrize("name", ["EMBEDSTORE_RETRY_SECONDS", "EMBEDSTORE_TIMEOUT_SECONDS"])
@pytest.mark.parametrize("text", ["soon", "-1", "nan"])
def test_settings_that_are_no_seconds(monkeypatch, name, text):
    monkeypatch.setenv(name, text)
    with pytest.raises(InputError, match=f"{name} is '{text}': it must be a number of seconds"):
        embedstore.open_store("s3://bucket/s.zarr")


# ---- other places --------------------------------------------------------------------------------


def test_urls_that_are_not_understood(monkeypatch):
    with pytest.raises(InputError, match="ftp://x/y cannot be opened: a store's URL begins with one of s3://"):
        embedstore.open_store("ftp://x/y")
    with pytest.raises(InputError, match="a web server can only be read from"):
        embedstore.open_store("https://example.org/s.zarr", mode="a")
    with pytest.raises(InputError, match="s3:// cannot be opened|s3: cannot be opened"):
        embedstore.open_store("s3://")
    monkeypatch.setitem(sys.modules, "embedstore.remote", None)
    with pytest.raises(InputError, match=r"s3://bucket/s.zarr needs the package obstore.*pip install 'embedstore\[re"):
        embedstore.open_store("s3://bucket/s.zarr")


def test_google_and_azure_are_known(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    assert type(remote.open_remote("gs://bucket/s.zarr", read_only=True).store).__name__ == "GCSStore"
    assert type(remote.open_remote("az://container/s.zarr", read_only=True).store).__name__ == "AzureStore"


def test_memory_is_new_at_every_open():
    with pytest.raises(NotInStoreError, match="a store in memory is new, and empty, each time it is opened"):
        embedstore.open_store("memory://")
    store = embedstore.open_store("memory://", mode="a")
    store.add_task(task())
    assert embedstore.open_store("memory://", mode="a").tasks() == []
    assert store.repair().empty
    assert describe.contents(store)[0]["stored_bytes"] is None


def test_a_store_that_cannot_be_listed_cannot_be_repaired(tmp_path):
    class Silent(zarr.storage.MemoryStore):
        async def list_prefix(self, prefix):
            raise NotImplementedError
            yield ""

    store = embedstore.open_store(Silent(), mode="a")
    with pytest.raises(StoreError, match="cannot be listed"):
        objects.names(store, "t")


# ---- HTTP ----------------------------------------------------------------------------------------


class Ranges(SimpleHTTPRequestHandler):
    """A web server that sends parts of files, as those of any use do."""

    def do_GET(self):
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        path = self.translate_path(self.path)
        try:
            content = Path(path).read_bytes()
        except OSError:
            return self.send_error(404)
        if not asked:
            return super().do_GET()
        first, last = asked.groups()
        start = int(first) if first else max(0, len(content) - int(last))
        stop = min(int(last) + 1, len(content)) if first and last else len(content)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        return self.wfile.write(content[start:stop])


@pytest.fixture(params=[Ranges, SimpleHTTPRequestHandler])
def web(request, tmp_path):
    class Quiet(request.param):
        def __init__(self, *args):
            super().__init__(*args, directory=str(tmp_path))

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_finished_store_is_read_from_a_web_server(web, many_blocks, tmp_path):
    near = local(tmp_path / "s.zarr")
    far = embedstore.open_store(f"{web}/s.zarr")
    assert (far.tasks(), far.models("t")) == (["t"], ["toy"])
    assert far.open("t", "toy").equals(near.open("t", "toy"))
    rows = far.embedding("t", "toy").read([3, 20, 4])
    np.testing.assert_array_equal(rows.vector, near.embedding("t", "toy").read([3, 20, 4]).vector)
    assert far.verify().sound
    assert describe.contents(far)[1]["stored_bytes"] is None
    with pytest.raises(NotInStoreError, match=f"There is no store at {web}/x.zarr"):
        embedstore.open_store(f"{web}/x.zarr")
    file = near.local / "t/embedding/toy/vector/c/0/0"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CorruptError):
        embedstore.open_store(f"{web}/s.zarr").embedding("t", "toy").read_block(0)


def test_nobody_listens(monkeypatch):
    monkeypatch.setenv("EMBEDSTORE_RETRY_SECONDS", "0.2")
    address = f"http://127.0.0.1:{s3.free_port()}/s.zarr"
    with pytest.raises(RemoteError, match=f"{address}: reading 'zarr.json' failed.*Check the address"):
        embedstore.open_store(address)


def test_a_server_that_answers_nonsense(monkeypatch):
    monkeypatch.setenv("EMBEDSTORE_RETRY_SECONDS", "0")

    class Broken(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        with pytest.raises(RemoteError, match="500 Internal Server Error"):
            embedstore.open_store(f"http://127.0.0.1:{server.server_address[1]}/s.zarr")
        server.shutdown()
        thread.join()


def test_has_zarrs():
    assert locations.has_zarrs()
