"""Downloads from a server on this machine, with the faults that servers have."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from embedstore import tasks
from embedstore.cli import main
from embedstore.errors import InputError, RemoteError

BED = b"chromosome\tstart\tend\tsplit\n" + b"chr1\t0\t512\ttrain\n" * 20_000
HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 50
LEAST = 'name = "mine"\nlevel = "sequence"\ntype = "multilabel"\nmetric = "auroc"\nnames = 2\n'


class Server(ThreadingHTTPServer):
    """Serves what is in `files`; counts requests; `cut` sends half of what it promised."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/mine.bed": BED, "/mine.hdf5": HDF5}
        self.asked: list[str] = []
        self.cut = False


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.server.cut else content)

    def log_message(self, *arguments) -> None:
        """Keep quiet."""


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def record(server, tmp_path):
    path = tmp_path / "mine.toml"
    url = f"http://127.0.0.1:{server.server_port}"
    path.write_text(f'{LEAST}[download]\n"mine.bed" = "{url}/mine.bed"\n"mine.hdf5" = "{url}/mine.hdf5"\n')
    return path


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def left(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_come_once_and_their_checksums_are_written_down(server, record, tmp_path, capfd):
    folder = tmp_path / "deep" / "data"
    files = tasks.download(record, folder)
    assert files == [folder / "mine.bed", folder / "mine.hdf5"]
    assert [path.read_bytes() for path in files] == [BED, HDF5]
    known = json.loads((folder / "checksums.json").read_text())
    assert {file: entry["sha256"] for file, entry in known.items()} == {
        "mine.bed": sha256(BED),
        "mine.hdf5": sha256(HDF5),
    }
    assert known["mine.bed"]["bytes"] == len(BED)
    assert known["mine.bed"]["url"].endswith("/mine.bed")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", known["mine.bed"]["date"])
    assert left(folder) == ["checksums.json", "mine.bed", "mine.hdf5"]
    before = (folder / "checksums.json").read_text().replace(known["mine.bed"]["date"], "2020-01-01T00:00:00+00:00")
    (folder / "checksums.json").write_text(before)
    assert tasks.download(record, folder) == files
    assert server.asked == ["/mine.bed", "/mine.hdf5"]
    assert (folder / "checksums.json").read_text() == before
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_gone_is_fetched_again_and_must_be_the_same(server, record, tmp_path):
    bed, _ = tasks.download(record, tmp_path / "data")
    bed.unlink()
    tasks.download(record, tmp_path / "data")
    assert (bed.read_bytes(), server.asked.count("/mine.bed"), server.asked.count("/mine.hdf5")) == (BED, 2, 1)
    bed.unlink()
    server.files["/mine.bed"] = BED + b"chr2\t0\t512\ttest\n"
    with pytest.raises(InputError) as caught:
        tasks.download(record, tmp_path / "data")
    for part in ("/mine.bed: the server has another file", sha256(BED), sha256(server.files["/mine.bed"]), "delete"):
        assert part in str(caught.value)
    assert left(tmp_path / "data") == ["checksums.json", "mine.hdf5"]


def test_a_file_that_was_changed_is_refused(server, record, tmp_path):
    bed, _ = tasks.download(record, tmp_path / "data")
    bed.write_bytes(BED[:-1])
    with pytest.raises(InputError) as caught:
        tasks.download(record, tmp_path / "data")
    for part in (str(bed), sha256(BED), sha256(BED[:-1]), "Delete it to fetch it again", "checksums.json"):
        assert part in str(caught.value)
    assert len(server.asked) == 2


def test_an_answer_that_stops_halfway_leaves_nothing(server, record, tmp_path):
    server.cut = True
    with pytest.raises(
        RemoteError, match=r"/mine.bed: cannot be fetched: .*If you can get the file elsewhere, put it at"
    ):
        tasks.download(record, tmp_path / "data")
    assert left(tmp_path / "data") == []
    server.cut = False
    assert tasks.download(record, tmp_path / "data")[0].read_bytes() == BED


def test_what_was_whole_before_a_fault_is_kept(server, record, tmp_path):
    hdf5 = server.files.pop("/mine.hdf5")
    with pytest.raises(
        RemoteError, match=r"/mine.hdf5: the server answers 404 Not Found. .* put it at .*mine.hdf5: it"
    ):
        tasks.download(record, tmp_path / "data")
    assert left(tmp_path / "data") == ["checksums.json", "mine.bed"]
    server.files["/mine.hdf5"] = hdf5
    tasks.download(record, tmp_path / "data")
    assert server.asked == ["/mine.bed", "/mine.hdf5", "/mine.hdf5"]


def test_a_file_put_there_by_hand_is_used_and_written_down(server, record, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "mine.bed").write_bytes(BED)
    tasks.download(record, folder)
    assert server.asked == ["/mine.hdf5"]
    entry = json.loads((folder / "checksums.json").read_text())["mine.bed"]
    assert (entry["sha256"], entry["url"]) == (sha256(BED), "")


def test_a_page_in_place_of_a_file_is_refused(server, record, tmp_path):
    server.files["/mine.bed"] = b"<!DOCTYPE html><title>This share has moved</title>"
    with pytest.raises(InputError, match=r"mine.bed: begins with b'<!DOCTYPE html.*look there with a browser"):
        tasks.download(record, tmp_path / "data")
    assert left(tmp_path / "data") == []
    (tmp_path / "data" / "mine.bed").write_bytes(b"<html>")
    with pytest.raises(InputError, match=r"mine.bed: begins with b'<html>'.* Delete it, or put the right one there"):
        tasks.download(record, tmp_path / "data")


def test_a_server_that_is_not_there(record, tmp_path, server):
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        port = other.server_port
    record.write_text(record.read_text().replace(f":{server.server_port}/", f":{port}/"))
    with pytest.raises(RemoteError, match=rf"127.0.0.1:{port}/mine.bed: cannot be fetched: .*refused.* put it at"):
        tasks.download(record, tmp_path / "data")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "mine.toml: the record has no table 'download'"),
        ('[download]\n"../mine.bed" = "http://127.0.0.1/x"\n', "'../mine.bed' from .*a plain file name"),
        ('[download]\n"mine.bed" = "ftp://127.0.0.1/x"\n', "a plain file name and an http"),
    ],
)
def test_records_that_cannot_be_fetched(tmp_path, table, message):
    (tmp_path / "mine.toml").write_text(LEAST + table)
    with pytest.raises(InputError, match=message):
        tasks.download(tmp_path / "mine.toml", tmp_path / "data")


@pytest.mark.parametrize("text", ["{", "[]", '{"mine.bed": 3}'])
def test_damaged_checksums_are_refused(record, tmp_path, text):
    (tmp_path / "checksums.json").write_text(text)
    with pytest.raises(
        InputError, match=r"checksums.json: is not JSON as it was written here: .* Mend it, or delete it"
    ):
        tasks.download(record, tmp_path)


def test_the_command(record, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["download", str(record), "--out", "here"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["here/mine.bed", "here/mine.hdf5", "Their checksums are in here/checksums.json."]
    assert "mine.bed: 100%" in err
    assert main(["download", str(record)]) == 0
    assert (tmp_path / "data" / "mine.bed").read_bytes() == BED
