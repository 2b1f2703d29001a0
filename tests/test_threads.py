import threading
import time

import pytest

from mz.threads import processors, side_by_side


def test_results_come_in_the_order_of_the_parts():
    def late_at_first(part):
        time.sleep(0.02 if part == 0 else 0.0)
        return 2 * part

    assert side_by_side(late_at_first, range(8)) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert side_by_side(late_at_first, []) == []


def test_the_error_of_the_first_part_that_has_one_is_raised():
    def broken(part):
        if part in (2, 5):
            time.sleep(0.02 if part == 2 else 0.0)
            raise ValueError(part)

    with pytest.raises(ValueError, match="2"):
        side_by_side(broken, range(8))


@pytest.mark.skipif(processors() < 2, reason="one processor")
def test_parts_are_worked_on_at_the_same_time():
    meeting = threading.Barrier(2)
    side_by_side(lambda part: meeting.wait(timeout=10), range(2))


def test_a_part_may_divide_its_own_work():
    """More parts within parts than there are threads: whoever waits for them works on them itself."""

    def outer(part):
        return sum(side_by_side(lambda inner: sum(side_by_side(lambda x: x * inner, range(5))), range(7)))

    assert side_by_side(outer, range(4 * processors())) == [21 * 10] * (4 * processors())


def test_no_more_threads_than_asked_for():
    busy, most, lock = 0, 0, threading.Lock()

    def count(part):
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.005)
        with lock:
            busy -= 1

    side_by_side(count, range(12), threads=2)
    assert most <= 2
    side_by_side(count, range(4), threads=1)
    assert most <= 2


def test_an_interrupt_leaves_the_other_parts_undone():
    done = []

    def interrupted(part):
        done.append(part)
        time.sleep(0.02)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side(interrupted, range(50), threads=2)
    assert len(done) <= 2
