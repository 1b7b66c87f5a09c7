"""What callers with narrow rights, or none, try to reach, to learn or to wear out."""


async def test_explain_self_does_not_tell_what_secrets_are_there(store) -> None:
    """A token without rights asked why it may not write, and heard whether there is a secret."""
    await store.ask("PUT", "secret/data/other/known", {"data": {"k": "v"}})
    nobody = await store.token_with('path "secret/data/mine" { capabilities = ["read"] }')
    said = []
    for name in ("known", "other-one"):
        asked = {"path": f"secret/data/other/{name}", "operation": "update"}
        status, reply = await store.ask("POST", "sys/explain-self", asked, token=nobody)
        assert status == 200
        assert reply["data"]["allowed"] is False
        assert reply["data"]["missing"].startswith("create, or update if it is there, on")
        said.append(str(reply["data"]).replace(f"other/{name}", ""))
    assert said[0] == said[1]


async def test_explain_tells_a_writer_which_of_the_two_it_is(store) -> None:
    await store.ask("PUT", "secret/data/there", {"data": {"k": "v"}})
    updater = await store.token_with('path "secret/data/*" { capabilities = ["update"] }')
    for name, operation, allowed in (("there", "update", True), ("none", "create", False)):
        asked = {"path": f"secret/data/{name}", "operation": "update"}
        _, reply = await store.ask("POST", "sys/explain-self", asked, token=updater)
        assert (reply["data"]["operation"], reply["data"]["allowed"]) == (operation, allowed)
