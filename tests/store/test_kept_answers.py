"""Whole answers that are kept: what they count for."""


async def test_an_answer_that_takes_the_place_of_another_counts_once(store) -> None:
    live = store.handler._context.sessions
    counted = []
    for number in range(3):
        body = {"data": {"k": f"{number}" * 100}}
        assert (await store.ask("PUT", "secret/data/a", body))[0] == 200
        assert (await store.ask("GET", "secret/data/a"))[0] == 200
        counted.append(live.prepared_bytes)
    assert counted[0] > 0
    # The times in it may be written with fewer digits.
    assert max(counted) < counted[0] + 100
