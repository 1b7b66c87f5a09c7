"""Specs as values: every rule that the other controller leaves to its webhook."""

from datetime import UTC, datetime
from time import process_time

import pytest

from strongroom.model.errors import Invalid
from strongroom.model.labels import selects
from strongroom.sync.durations import parse_duration, parse_windows
from strongroom.sync.patterns import matches, replace_all
from strongroom.sync.selectors import allows, any_allows, namespaces_of
from strongroom.sync.spec import GeneratorRef, Spec, StoreRef, parse_spec
from strongroom.template.budget import Budget

STORE = {"name": "s"}
ROW = {"secretKey": "k", "remoteRef": {"key": "prod/db", "property": "p"}}
EXTRACT = {"extract": {"key": "prod/db"}}


def spec_of(**spec) -> Spec:
    spec.setdefault("secretStoreRef", STORE)
    return parse_spec({"metadata": {"name": "db", "namespace": "n"}, "spec": spec})


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ({}, "no-data"),
        ({"data": [ROW], "secretStoreRef": {}}, "no-store"),
        ({"dataFrom": [EXTRACT], "secretStoreRef": {}}, "no-store"),
        ({"dataFrom": [{"find": {}}], "secretStoreRef": {}}, "no-store"),
        ({"data": [{"secretKey": "a b", "remoteRef": {"key": "x"}}]}, "bad-key"),
        ({"data": [{"secretKey": "a", "remoteRef": {}}]}, "no-remote-key"),
        ({"data": [ROW], "refreshInterval": "soon"}, "bad-duration"),
        ({"data": [ROW], "refreshPolicy": "Sometimes"}, "bad-value"),
        ({"data": [ROW], "target": {"creationPolicy": "Sometimes"}}, "bad-value"),
        ({"data": [ROW], "target": {"deletionPolicy": "Sometimes"}}, "bad-value"),
        ({"data": [ROW], "target": {"template": {"mergePolicy": "Sometimes"}}}, "bad-value"),
        ({"data": [ROW], "target": {"template": {"templateFrom": [{"literal": "", "valuesDecodingStrategy": "Hex"}]}}}, "bad-value"),
        ({"data": [ROW], "secretStoreRef": {"name": "s", "kind": "Store"}}, "bad-value"),
        ({"data": [ROW], "target": {"creationPolicy": "Merge", "deletionPolicy": "Delete"}}, "bad-policy"),
        ({"data": [ROW], "target": {"creationPolicy": "None", "deletionPolicy": "Delete"}}, "bad-policy"),
        ({"data": [ROW], "target": {"creationPolicy": "CreateOrMerge", "deletionPolicy": "Delete"}}, "bad-policy"),
        ({"data": [ROW], "target": {"creationPolicy": "None", "deletionPolicy": "Merge"}}, "bad-policy"),
        ({"dataFrom": [{**EXTRACT, "find": {}}]}, "bad-source"),
        ({"dataFrom": [{}]}, "bad-source"),
        ({"dataFrom": [{**EXTRACT, "sourceRef": {"generatorRef": {"kind": "UUID", "name": "u"}}}]}, "bad-source"),
        ({"dataFrom": [{"sourceRef": {"generatorRef": {"kind": "UUID"}}}]}, "bad-generator"),
        ({"dataFrom": [{**EXTRACT, "rewrite": [{"regexp": {"source": "(", "target": ""}}]}]}, "bad-pattern"),
        ({"dataFrom": [{**EXTRACT, "rewrite": [{"merge": {"strategy": "JSON"}}]}]}, "bad-rewrite"),
        ({"dataFrom": [{**EXTRACT, "rewrite": [{}]}]}, "bad-rewrite"),
        ({"data": [ROW], "target": {"template": {"engineVersion": "v1"}}}, "bad-engine"),
        ({"data": [ROW], "target": {"template": {"type": "bootstrap.kubernetes.io/token"}}}, "bad-type"),
        (
            {"data": [ROW], "target": {"template": {
                "type": "kubernetes.io/service-account-token",
                "metadata": {"annotations": {"kubernetes.io/service-account.name": "admin"}}}}},
            "bad-type",
        ),
        ({"data": [ROW], "target": {"template": {"templateFrom": [{"literal": "", "target": "spec.x"}]}}}, "bad-template-target"),
        ({"data": [ROW], "target": {"template": {"templateFrom": [{}]}}}, "bad-template-source"),
        ({"data": [ROW], "target": {"manifest": {"kind": "ConfigMap"}}}, "bad-manifest"),
    ],
)  # fmt: skip
def test_a_spec_that_cannot_be_is_refused(spec: dict, code: str) -> None:
    with pytest.raises(Invalid) as error:
        spec_of(**spec)
    assert error.value.code == code


@pytest.mark.parametrize(
    "field", ["conversionStrategy", "decodingStrategy", "nullBytePolicy", "metadataPolicy"]
)
def test_a_strategy_that_nobody_knows_is_refused_and_not_passed_over(field: str) -> None:
    entries = [{"extract": {"key": "k", field: "Sometimes"}}]
    if field != "metadataPolicy":
        entries.append({"find": {field: "Sometimes"}})
    for entry in entries:
        with pytest.raises(Invalid, match=field) as error:
            spec_of(dataFrom=[entry])
        assert error.value.code == "bad-value"


def test_defaults_are_the_ones_users_know() -> None:
    spec = spec_of(data=[ROW])
    assert (spec.target, spec.creation, spec.deletion) == ("db", "Owner", "Retain")
    assert (spec.refresh_policy, spec.refresh_seconds) == ("Periodic", 3600.0)
    assert spec.template is None
    assert (spec.rows[0].remote.conversion, spec.rows[0].remote.decoding) == ("Default", "None")


def test_rows_and_sources_may_name_their_own_store_or_a_generator() -> None:
    other = {"storeRef": {"name": "t", "kind": "ClusterSecretStore"}}
    generator = {"generatorRef": {"kind": "Password", "name": "p"}}
    theirs = {"generatorRef": {"apiVersion": "example.com/v1", "kind": "Password", "name": "p"}}
    spec = spec_of(
        data=[{**ROW, "sourceRef": other}],
        dataFrom=[{"sourceRef": generator}, {"find": {"path": "x"}}, {"sourceRef": theirs}],
    )
    assert spec.stores == {StoreRef("t", "ClusterSecretStore"), StoreRef("s")}
    assert spec.generators == {
        GeneratorRef("Password", "p"),
        GeneratorRef("Password", "p", "example.com/v1"),
    }


@pytest.mark.parametrize("deletion", ["Retain", "Delete", "Merge"])
def test_a_key_may_stand_twice_and_has_a_second_place_to_come_from(deletion: str) -> None:
    assert len(spec_of(data=[ROW, ROW], target={"deletionPolicy": deletion}).rows) == 2


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1h", 3600), ("1h30m", 5400), ("0", 0), ("15s", 15), ("1h0m0s", 3600), (30, 30), ("1.5h", 5400), ("100ms", 0.1)],
)  # fmt: skip
def test_durations(text, seconds: float) -> None:
    assert parse_duration(text) == seconds


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_sync_windows_gate_by_cron_in_utc() -> None:
    night = {"windows": [{"schedule": "30 22 * * mon-fri", "duration": "2h"}]}
    allow, deny = (
        parse_windows({"kind": "allow", **night}),
        parse_windows({"kind": "deny", **night}),
    )
    # 2026-11-23 is a Monday.
    for moment, inside in (
        ("2026-11-23T22:30", True),
        ("2026-11-24T00:29", True),
        ("2026-11-24T00:30", False),
        ("2026-11-23T22:29", False),
        ("2026-11-22T23:00", False),
    ):
        assert allow.open(at(moment)) is inside
        assert deny.open(at(moment)) is not inside
    hourly = parse_windows(
        {"kind": "allow", "windows": [{"schedule": "@hourly", "duration": "5m"}]}
    )
    assert hourly.open(at("2026-11-23T10:04"))
    assert not hourly.open(at("2026-11-23T10:05"))


@pytest.mark.parametrize("text", ["soon", "1", "1h 5m", "²s", "٣s", "999999999h"])
def test_what_go_reads_no_duration_from_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="bad-duration"):
        parse_duration(text)


def test_many_windows_are_looked_through_at_once_and_more_are_refused() -> None:
    """Minute by minute that is ten thousand looks for each."""
    never = {"schedule": "0 0 30 2 *", "duration": "2000000h"}
    begun = process_time()
    assert not parse_windows({"kind": "allow", "windows": [never] * 256}).open(1.7e9)
    assert process_time() - begun < 1
    with pytest.raises(Invalid, match="at most 256"):
        parse_windows({"kind": "allow", "windows": [never] * 257})


def test_a_window_is_looked_for_by_day_and_hour() -> None:
    """As it is minute by minute: 2023-11-14 22:13 was a Tuesday."""
    for schedule, duration, opened in (
        ("13 22 14 11 *", "1m", True), ("12 22 14 11 *", "1m", False),
        ("0 1 8 * *", "168h", True), ("0 1 7 * *", "168h", False),
        ("30 23 * * mon", "23h", True), ("30 23 * * mon", "22h", False),
        ("*/7 */5 13,14 * *", "24h", True), ("59 23 31 10 *", "400h", False),
    ):  # fmt: skip
        window = {"schedule": schedule, "duration": duration}
        found = parse_windows({"kind": "allow", "windows": [window]}).open(1_700_000_000.0)
        assert found is opened, schedule


def test_windows_that_cannot_be_read_are_left_out() -> None:
    endless = {"windows": [{"schedule": "* * * * *", "duration": "999999999h"}]}
    assert parse_windows({"kind": "allow", **endless}).open(0.0)
    for schedule in (
        "every day",
        "61 * * * *",
        "* * *",
        "*/-1 * * * *",
        "*/0 * * * *",
        "٣ * * * *",
    ):
        broken = {"kind": "allow", "windows": [{"schedule": schedule, "duration": "1h"}]}
        assert parse_windows(broken).open(0.0)
    assert parse_windows(None).open(0.0)


def test_day_of_month_and_day_of_week_are_joined_with_or() -> None:
    either = parse_windows(
        {"kind": "allow", "windows": [{"schedule": "0 0 1 * sun", "duration": "1m"}]}
    )
    assert either.open(at("2026-12-01T00:00"))
    assert either.open(at("2026-11-22T00:00"))
    assert not either.open(at("2026-11-23T00:00"))


@pytest.mark.parametrize(
    ("source", "target", "text", "made"),
    [
        ("^db-(.*)$", "$1", "db-password", "password"),
        ("(?P<a>[a-z]+)_(.)", "${a}.$2", "key_1", "key.1"),
        ("(x)", "$1y", "x", ""),
        ("(x)", "${1}y", "x", "xy"),
        ("x", "$$", "axb", "a$b"),
        ("/", "_", "a/b/c", "a_b_c"),
        ("b", "$nosuch", "abc", "ac"),
        # No empty match right after another: what Go 1.26 answers.
        ("(.*)", "p-$1", "abc", "p-abc"),
        ("x*", "-", "abxd", "-a-b-d-"),
        ("a|$", "z", "ba", "bz"),
        ("é*", "-", "aéb", "-a-b-"),
    ],
)
def test_replacements_are_gos(source: str, target: str, text: str, made: str) -> None:
    assert replace_all(source, target, text, Budget()) == made


def test_patterns_are_re2_and_take_linear_time() -> None:
    assert matches("ro+t", "a root b")
    assert not matches("(a*)*b", "a" * 5000)
    with pytest.raises(Invalid):
        matches("(?=x)", "x")


def test_label_selectors() -> None:
    labels = {"env": "prod", "team": "x"}
    assert selects({"matchLabels": {"env": "prod"}}, labels)
    assert selects({}, labels)
    assert not selects(None, labels)
    for operator, values, holds in (
        ("In", ["prod"], True),
        ("NotIn", ["prod"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
    ):
        expression = {"key": "env", "operator": operator, "values": values}
        assert selects({"matchExpressions": [expression]}, labels) is holds
    with pytest.raises(Invalid):
        selects({"matchExpressions": [{"key": "env", "operator": "Gt"}]}, labels)


def test_cluster_stores_let_namespaces_in() -> None:
    assert allows({"namespaces": ["a"]}, "a", {})
    assert allows({"namespaceRegexes": ["team-.*"]}, "team-x", {})
    assert allows({"namespaceSelector": {"matchLabels": {"env": "prod"}}}, "z", {"env": "prod"})
    assert not allows({"namespaces": ["a"]}, "z", {})
    assert any_allows([], "z", {})
    assert not any_allows([{"namespaces": ["a"]}], "z", {})


def test_cluster_wide_objects_choose_namespaces_by_any_selector_or_name() -> None:
    spaces = [("a", {"env": "prod"}), ("b", {"env": "test"}), ("c", {})]
    chosen = {"namespaceSelectors": [{"matchLabels": {"env": "prod"}}], "namespaces": ["c"]}
    assert namespaces_of(chosen, spaces) == ["a", "c"]
    assert namespaces_of({"namespaceSelector": {"matchLabels": {"env": "test"}}}, spaces) == ["b"]
    assert namespaces_of({}, spaces) == []
