"""A value that is marked goes to every endpoint there is, and stands in no record, refusal or log."""

import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tests.store.test_openapi import LEFT_OUT, MOUNTS, THERE

CANARY = "marked-5c9e02"
SHAPES = (CANARY, [CANARY], {"data": {"k": [CANARY]}})
# What names or describes something is repeated where it is wrong, as in Vault, and what a token
# is known by stands in its records.
NO_SECRET = frozenset(
    re.findall(
        r"\S+",
        "policy rules policies token_policies meta metadata type token_type role_type role id name"
        " path paths from algorithm hash hash_algorithm signature_algorithm marshaling_algorithm"
        " mount_accessor member_entity_ids member_group_ids secret_id_accessor bound_cidrs display_name"
        " token_bound_cidrs secret_id_bound_cidrs bound_cidr_list cidr_list jwks_url"
        " oidc_discovery_url",
    )
)


def requests_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every described write, with the marked value in one parameter and in all of them."""
    for path, item in document["paths"].items():
        target = path.lstrip("/")
        while "{" in target:
            head, _, rest = target.partition("{")
            target = head + "x" + rest.partition("}")[2]
        for verb in ("post", "patch"):
            if verb not in item or path.startswith(LEFT_OUT):
                continue
            schema = next(iter(item[verb]["requestBody"]["content"].values()))["schema"]
            names = [*(schema.get("properties", {}).keys() - NO_SECRET), "k"]
            for shape in SHAPES:
                for body in (dict.fromkeys(names, shape), *({name: shape} for name in names)):
                    yield verb.upper(), target, body


@pytest.mark.long
async def test_cve_2025_62513_no_endpoint_records_or_repeats_a_value(store, caplog) -> None:
    if store.engine.waits:
        pytest.skip("what is recorded does not depend on the database")
    caplog.set_level(logging.DEBUG)
    for path, body in {**MOUNTS, **THERE}.items():
        assert (await store.ask("POST", path, body))[0] in (200, 204), path
    _, document = await store.ask("GET", "sys/internal/specs/openapi")
    asked, found = 0, []
    for verb, target, body in requests_of(document):
        asked += 1
        store.device.lines.clear()
        caplog.clear()
        kind = "application/merge-patch+json" if verb == "PATCH" else "application/json"
        status, said = await store.ask(verb, target, body, Content_Type=kind)
        places = {
            "record": b"".join(store.device.lines).decode(),
            "refusal": json.dumps(said) if status >= 400 else "",
            "log": caplog.text,
        }
        found += [(verb, target, body, place) for place, text in places.items() if CANARY in text]
    assert found == []
    assert asked > 1000
