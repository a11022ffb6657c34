"""The client and its cache, against a real server that misbehaves; time is a clock that only waiting moves."""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from databases import PROTEIN, Clock, Databases

from embedstore.curation.cache import Answer, Cache, Request
from embedstore.curation.client import BREAKER, TRIES, Client, Fault, json_fault
from embedstore.errors import InputError, RemoteError, ServerError


@pytest.fixture
def world():
    world = Databases()
    world.name = world.add("P00001", PROTEIN)
    world.url = f"{world.address}/ena/embl/{world.name}"
    yield world
    world.close()


@pytest.fixture
def client(world, tmp_path):
    return world.client(tmp_path / "cache")


# ---- what is tried again --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["500", "502", "503", "504", "429", "reset", "cut", "html", "empty"])
def test_what_fails_is_tried_again_with_growing_waits(world, client, kind):
    world.faults.append(["/ena/", kind, 3])
    assert client.get(world.url, rate=1e9).text == world.embl[world.name]
    assert client.asked == len(world.log) == 4
    assert [wait for wait in client.time.slept if wait > 0.1] == [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("500", "server_error"),
        ("429", "too_many_requests"),
        ("reset", "connection"),
        ("cut", "connection"),
        ("html", "html_page"),
        ("empty", "empty_body"),
    ],
)
def test_after_six_tries_the_error_says_why(world, client, kind, reason):
    world.faults.append(["/ena/", kind, 99])
    with pytest.raises(ServerError, match=rf"{re.escape(world.url)}: 6 tries, the last: ") as raised:
        client.get(world.url)
    assert raised.value.reason == reason
    assert len(world.log) == TRIES == 6
    world.faults.clear()
    assert client.get(world.url).status == 200  # a failure is never kept


def test_the_page_of_html_is_shown(world, client):
    world.faults.append(["/ena/", "html", 99])
    message = r"\?x+\.\.\.: 6 tries, the last: a page of HTML with status 200: '<!DOCTYPE html> <html><body>We are down"
    with pytest.raises(ServerError, match=message):
        client.get(f"{world.url}?{'x' * 200}")


@pytest.mark.parametrize("status", [400, 404, 410])
def test_final_answers_are_not_tried_again_and_are_kept(world, client, status):
    world.faults.append(["/ena/", str(status), 1])
    assert [client.get(world.url).status for _ in range(3)] == [status] * 3
    assert len(world.log) == 1


def test_a_refusal_is_not_tried_again(world, client):
    world.faults.append(["/ena/", "403", 1])
    with pytest.raises(ServerError, match="refused with status 403: 'an error'") as raised:
        client.get(world.url)
    assert (raised.value.reason, len(world.log)) == ("refused", 1)


def test_an_address_that_cannot_be_asked_is_not_tried_again(client):
    with pytest.raises(ServerError, match="cannot be asked"):
        client.get("nonsense://a.org/x")


def test_a_silent_server_is_a_timeout(world, client, monkeypatch):
    monkeypatch.setattr("embedstore.curation.client._TIMEOUT", (5.0, 0.05))
    silent = threading.Event()
    world.on_request = lambda count: silent.wait(20)
    with pytest.raises(ServerError) as raised:
        client.get(world.url)
    silent.set()
    assert raised.value.reason == "timeout"


def test_an_answer_that_a_check_refuses_is_asked_for_again(world, client):
    world.faults.append(["results", "half", 1])
    client.post(f"{world.address}/uniprot/idmapping/run", {"ids": "P00001"})
    answer = client.get(f"{world.address}/uniprot/idmapping/results/job0", check=lambda one: json_fault(one, "results"))
    assert answer.json["results"] == [{"from": "P00001", "to": world.name}]
    assert len(world.asked("results")) == 2


@pytest.mark.parametrize(
    ("body", "detail"),
    [(b'{"results": [', "Expecting value"), (b"[1]", "no results in '\\[1\\]'"), (b'{"a": 1}', "no results in ")],
)
def test_json_fault(body, detail):
    fault = json_fault(Answer("u", 200, {}, body), "results")
    assert fault.reason == "not_json"
    assert re.match(detail, fault.detail)
    assert json_fault(Answer("u", 200, {}, b'{"results": []}'), "other", "results") is None


# ---- politeness -----------------------------------------------------------------------------------


def test_retry_after_is_honoured_by_all(world, client):
    world.faults.append(["/ena/", "429 7", 1])
    client.get(world.url, rate=1000)
    assert client.time.now == pytest.approx(7, abs=0.1)
    client._hold(world.address.removeprefix("http://"), 5)
    client.get(f"{world.url}?again=1", rate=1000)
    assert client.time.now == pytest.approx(12, abs=0.1)


def test_retry_after_as_a_date_is_read_against_the_servers_clock(world, client):
    world.faults.append(["/ena/", "429 Wed, 21 Oct 2065 07:28:00 GMT", 1])
    with pytest.raises(RemoteError, match=r"asks to wait [\d,]+ s\. Run the same command again after that"):
        client.get(world.url)
    world.faults.append(["/ena/", "429 Wed, 21 Oct 2015 07:28:00 GMT", 1])
    client.get(world.url)
    assert client.time.now < 1
    world.faults[:] = [["/ena/", "429 soon", 1]]
    client.get(f"{world.url}?other")  # nonsense is as good as nothing
    assert client.time.now < 2


@pytest.mark.parametrize("threads", [1, 4])
def test_no_server_is_asked_faster_than_its_rate(world, client, threads):
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda i: client.get(f"{world.url}?n={i}", rate=5), range(21)))
    assert len(world.log) == 21
    # Every wait is for one's own turn, so with one thread the clock shows the last turn.
    assert client._next[world.address.removeprefix("http://")] >= 21 / 5
    if threads == 1:
        assert client.time.now == pytest.approx(20 / 5)


def test_the_user_can_be_slower_but_not_faster(world, tmp_path):
    for slowest, seconds in ((0.5, 6.0), (100.0, 0.6)):
        client = world.client(tmp_path / str(slowest), slowest=slowest)
        for i in range(4):
            client.get(f"{world.url}?n={i}", rate=5)
        assert client.time.now == pytest.approx(seconds)


def test_each_server_has_its_own_rate(world, client):
    client.get(world.url, rate=0.1)
    client.get(world.url.replace("127.0.0.1", "localhost"), rate=0.1)
    assert client.time.now == 0


def test_no_more_is_asked_after_twenty_failures_in_a_row(world, client):
    world.faults.append(["bad", "500", 999])
    for i in range(3):
        with pytest.raises(ServerError):
            client.get(f"{world.url}?bad={i}")
    with pytest.raises(
        RemoteError,
        match="20 failures in a row, the last at .*: server_error, status 500.*What was fetched is kept: run",
    ) as raised:
        client.get(f"{world.url}?bad=3")
    assert type(raised.value) is RemoteError
    assert len(world.log) == BREAKER == 20
    with pytest.raises(RemoteError, match="20 failures in a row"):
        client.get(f"{world.url}?good")
    assert len(world.log) == 20


def test_a_success_closes_the_count(world, client):
    world.faults.append(["bad", "500", 999])
    for i in range(5):
        with pytest.raises(ServerError):
            client.get(f"{world.url}?bad={i}")
        client.get(f"{world.url}?good={i}")


def test_the_contact_is_in_the_user_agent_and_is_needed(world, client, tmp_path):
    client.get(world.url)
    assert re.fullmatch(r"embedstore/\S+ \(me@example\.org\)", world.agent)
    with pytest.raises(InputError, match="contact is 'me': the owners of public servers ask for an address"):
        Client(tmp_path, contact="me")
    Client(tmp_path, contact="https://example.org/me")


def test_without_requests_only_the_cache_answers(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(InputError, match="needs requests; install 'embedstore.download.', or work offline"):
        Client(tmp_path, contact="me@example.org")
    Client(tmp_path, offline=True)


# ---- the cache ------------------------------------------------------------------------------------


def test_equal_requests_are_sent_once(world, client, tmp_path):
    run, form = f"{world.address}/uniprot/idmapping/run", {"ids": "P00001"}
    for _ in range(2):
        client.get(world.url, {"a": "1,2"})
        client.post(run, form)
        client.post(f"{world.address}/data/graphql", data={"variables": {"id": "1ABC"}})
    client.post(run, {"ids": "P00002"})
    assert len(world.log) == 4
    again = Client(tmp_path / "cache", offline=True)
    assert again.get(world.url, {"a": "1,2"}).text == world.embl[world.name]
    assert again.post(run, form).json == {"jobId": "job0"}
    assert again.asked == 0


def test_offline_says_what_is_missing(world, tmp_path):
    with pytest.raises(
        ServerError, match=rf"{re.escape(world.url)}: no answer is kept in .*cache, and the run is offl"
    ) as e:
        Client(tmp_path / "cache", offline=True).get(world.url)
    assert (e.value.reason, world.log) == ("not_cached", [])


def test_keep_decides_by_the_answer(world, client):
    for keep, sent in ((False, 2), (lambda one: one.status == 404, 4), (lambda one: one.status == 200, 5)):
        for _ in range(2):
            client.get(world.url, keep=keep)
        assert len(world.log) == sent


def test_a_forgotten_answer_is_asked_for_again(world, client):
    client.get(world.url)
    client.forget(Request("GET", world.url))
    client.forget(Request("GET", "http://never.asked"))
    client.get(world.url)
    assert len(world.log) == 2


@pytest.mark.parametrize("damage", ["body", "no body", "json", "list", "field"])
def test_a_damaged_cache_is_told_and_asked_again(world, client, caplog, damage):
    client.get(world.url)
    (record,) = (client.cache.folder / "requests").rglob("*.json")
    (body,) = (path for path in (client.cache.folder / "bodies").rglob("*") if path.is_file())
    known = json.loads(record.read_text())
    assert (known["asked"], known["status"], known["sha256"]) == (world.url, 200, body.name)
    if damage == "no body":
        body.unlink()
    elif damage == "body":
        body.write_bytes(b"x")
    else:
        record.write_text({"json": "{", "list": "[]", "field": '{"url": 1}'}[damage])
    with caplog.at_level(logging.WARNING):
        assert client.get(world.url).text == world.embl[world.name]
    assert len(world.log) == 2
    assert ("is asked for again" in caplog.text) == (damage != "no body")


def test_an_unreadable_cache_is_an_error(tmp_path):
    request = Request("GET", "http://a.org")
    Cache(tmp_path)._request_path(request).mkdir(parents=True)
    with pytest.raises(InputError, match="a file of the cache cannot be read: Is a directory"):
        Cache(tmp_path).get(request)


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("no room")))
    with pytest.raises(OSError, match="no room"):
        Cache(tmp_path).put(Request("GET", "http://a.org"), Answer("u", 200, {}, b"x"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_the_key_of_a_request_knows_all_its_parts():
    requests = [Request("GET", "u"), Request("POST", "u"), Request("GET", "u2"), Request("POST", "u", b"b")]
    assert len({one.key for one in requests}) == 4
    assert Request("GET", "u").key == requests[0].key
    assert Fault("a", "b") == ("a", "b")
    assert Clock()() == 0
