"""Repeats are folded for people; the JSON keeps every touch."""

from dataclasses import replace

from strongroom.audit.timeline import Actor, Entry, fold

GET = Entry(1.0, "kubernetes", Actor("admin"), "get", "Secret shop/db", "ok", 1, inferred=True)


def test_only_what_differs_in_time_alone_is_folded() -> None:
    entries = [
        GET,
        replace(GET, time=2.0),
        replace(GET, time=3.0, version=2),
        replace(GET, time=4.0),
    ]
    assert [(each.entry.time, each.count) for each in fold(entries)] == [
        (1.0, 2),
        (3.0, 1),
        (4.0, 1),
    ]
    assert fold([]) == []


def test_reads_of_a_secret_that_may_have_held_two_versions_are_folded() -> None:
    entries = [replace(GET, time=time, later=((2, time),)) for time in (1.0, 2.0, 3.0)]
    entries.append(replace(GET, time=4.0, later=((3, 4.0),)))
    assert [(each.entry.time, each.count) for each in fold(entries)] == [(1.0, 3), (4.0, 1)]
