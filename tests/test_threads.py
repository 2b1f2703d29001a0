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
