"""Each worker has a processor of its own where there is one for each, and only there."""

import pytest

from strongroom.app.processors import MOST_WORKERS, default_workers, processors_of, usable


def test_as_many_workers_as_processors_have_one_each() -> None:
    assert [processors_of(number, 3, {9, 2, 5}) for number in range(3)] == [{2}, {5}, {9}]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_fewer_or_more_go_where_the_system_lets_them(count: int) -> None:
    assert all(processors_of(number, count, {2, 5, 9}) == {2, 5, 9} for number in range(count))


def test_there_are_no_more_workers_than_processors_by_default() -> None:
    assert 1 <= default_workers() <= min(len(usable()), MOST_WORKERS)
