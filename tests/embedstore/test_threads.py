"""Stages beside each other: order, back-pressure, errors, and nothing left running."""

from __future__ import annotations

import threading
import time

import pytest

from embedstore.threads import Ahead, Behind


def wait_until(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_ahead_gives_everything_in_order():
    with Ahead(range(100), 2, "test-ahead") as items:
        assert list(items) == list(range(100))
    assert not [thread for thread in threading.enumerate() if thread.name == "test-ahead"]


def test_ahead_works_no_further_than_its_depth():
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    with Ahead(items(), 3, "test-ahead") as ahead:
        taken = iter(ahead)
        assert next(taken) == 0
        wait_until(lambda: len(made) == 5)  # one taken, three ready, one that waits to be handed over
        time.sleep(0.05)
        assert len(made) == 5
    assert made == list(range(5))


def test_ahead_passes_errors_on_where_they_happen():
    def items():
        yield 1
        yield 2
        raise ValueError("the third")

    seen = []
    with pytest.raises(ValueError, match="the third"), Ahead(items(), 1, "test-ahead") as ahead:
        seen.extend(ahead)
    seen.clear()
    with pytest.raises(ValueError, match="the third"), Ahead(items(), 1, "test-ahead") as ahead:
        for item in ahead:
            seen.append(item)
    assert seen == [1, 2]


def test_leaving_the_loop_early_ends_the_thread():
    with pytest.raises(KeyboardInterrupt), Ahead(iter(int, 1), 1, "test-ahead") as ahead:
        for _ in ahead:
            raise KeyboardInterrupt
    assert not [thread for thread in threading.enumerate() if thread.name == "test-ahead"]


def test_behind_does_everything_in_order_before_it_is_left():
    done = []
    with Behind(done.append, 2, "test-behind") as behind:
        for number in range(100):
            behind.put(number)
    assert done == list(range(100))
    assert behind.seconds >= 0
    assert not [thread for thread in threading.enumerate() if thread.name == "test-behind"]


def test_behind_holds_the_one_who_hands_over():
    go, begun = threading.Event(), []

    def work(item):
        begun.append(item)
        go.wait(20)

    handed = []
    with Behind(work, 2, "test-behind") as behind:

        def hand_over():
            for number in range(6):
                behind.put(number)
                handed.append(number)

        other = threading.Thread(target=hand_over)
        other.start()
        wait_until(lambda: len(handed) == 3)  # one in work, two that wait
        time.sleep(0.05)
        assert handed == [0, 1, 2]
        go.set()
        other.join()
    assert begun == list(range(6))
    assert behind.waited > 0.04


def test_behind_raises_what_an_item_raised_and_discards_the_rest():
    done, discarded = [], []

    def work(item):
        if item == 2:
            raise ValueError("the third")
        done.append(item)

    with pytest.raises(ValueError, match="the third"), Behind(work, 1, "t", discard=discarded.append) as behind:
        for number in range(1000):
            behind.put(number)
    assert done == [0, 1]
    assert discarded == list(range(3, 3 + len(discarded)))
    with pytest.raises(ValueError, match="the third"), Behind(work, 9, "t") as behind:
        behind.put(2)  # raised on leaving


def test_an_error_of_the_loop_is_not_hidden_by_one_of_a_stage():
    def work(item):
        raise ValueError("stage")

    with pytest.raises(KeyError, match="loop"), Behind(work, 1, "t") as behind:
        behind.put(1)
        raise KeyError("loop")
