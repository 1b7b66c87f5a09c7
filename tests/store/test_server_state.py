"""What the server says of itself: metrics, requests in flight, host, log levels, configuration."""

import asyncio
import json
import logging
import os
import re
from pathlib import Path

import pytest
import yaml

from strongroom.app.store_config.sanitized import sanitized
from strongroom.app.store_config.settings import settings_of
from strongroom.app.store_config.sources import read_files
from strongroom.store.assembly import AUTH_METHODS, SECRETS_ENGINES
from strongroom.store.call import Endpoint, Result
from strongroom.store.system.host import HostInfo
from strongroom.store.system.metrics import Sample, as_text
from strongroom.store.system.not_served import REASONS

ROOT = Path(__file__).resolve().parents[2]
BACKGROUND = "strongroom_background_failures_total"
SCRAPER = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Labels and values by name; every line is one of the three that the form has."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    typed = set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in typed
            typed.add(name)
            continue
        name, labels, value = re.fullmatch(r"(\w+)\{(.*)\} (\S+)", line).groups()
        assert name.removesuffix("_sum").removesuffix("_count") in typed or name in typed
        pairs = dict(re.findall(r'(\w+)="((?:[^"\\\\]|\\\\.)*)"', labels))
        found.setdefault(name, []).append((pairs, float(value)))
    return found


async def test_metrics_have_vaults_names_for_a_scraper(store) -> None:
    for _ in range(3):
        await store.ask("GET", "secret/data/absent")
    status, text = await store.ask("GET", "sys/metrics", Accept=SCRAPER)
    assert status == 200
    found = samples(text)
    name = (await store.ask("GET", "sys/health"))[1]["cluster_name"]
    ((labels, unsealed),) = found["vault_core_unsealed"]
    assert (unsealed, labels["cluster"]) == (1, name)
    assert found["vault_core_handle_request_count"][0][1] >= 3
    assert "vault_core_handle_request_sum" in found
    assert found["vault_expire_num_leases"][0][1] >= 1
    assert found["vault_runtime_sys_bytes"][0][1] > 1_000_000
    # The request that asks is itself under way.
    assert found["vault_core_in_flight_requests"][0][1] == 1
    assert set(found["strongroom_requests_total"][0][0]) == {"operation", "status", "worker"}
    _, same = await store.ask("GET", "sys/metrics?format=prometheus")
    assert samples(same).keys() == found.keys()


async def test_the_page_and_the_alert_rules_name_metrics_that_are_there(store) -> None:
    await store.ask("GET", "secret/data/absent")
    _, text = await store.ask("GET", "sys/metrics?format=prometheus")
    there = {re.sub(r"_(sum|count)$", "", name) for name in samples(text)}
    page = (ROOT / "docs/store-operations.md").read_text()
    assert {name for name in there if name not in page} == set()
    rules = yaml.safe_load((ROOT / "deploy/prometheus/strongroom-store-rules.yaml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        asked = set(re.findall(r"\b(?:strongroom|vault)_\w+", rule["expr"]))
        assert asked, rule["alert"]
        assert asked <= there, rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}
        for part in re.findall(r'part=~"([^"]*)"', rule["expr"]):
            known = {labels["part"] for labels, _ in samples(text)[BACKGROUND]}
            assert set(part.split("|")) <= known
    dashboard = (ROOT / "deploy/grafana/strongroom-store.json").read_text()
    shown = set(re.findall(r"\b(?:strongroom|vault)_\w+", dashboard))
    assert {re.sub(r"_(sum|count)$", "", name) for name in shown} == there


def test_rules_and_dashboard_look_back_over_many_scrapes() -> None:
    """A scrape shows one of the workers: a number alone is there now and gone at the next."""
    rules = (ROOT / "deploy/prometheus/strongroom-store-rules.yaml").read_text()
    asked = [rule["expr"] for each in yaml.safe_load(rules)["groups"] for rule in each["rules"]]
    dashboard = json.loads((ROOT / "deploy/grafana/strongroom-store.json").read_text())
    asked += [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for expression in asked:
        for found in re.finditer(r"(absent\()?\b(?:strongroom|vault)_\w+", expression):
            after = expression[found.end() :]
            assert found[1] or re.match(r"(\{[^}]*\})?\[\d+[mh]\]", after), expression


async def test_a_scrape_ends_its_connection(store) -> None:
    """The next one may meet another worker, whose failures nobody would see otherwise."""
    for form, ends in (("?format=prometheus", True), ("", False)):
        reply = await store.http.request(
            "GET", f"{store.address}/v1/sys/metrics{form}", headers={"X-Vault-Token": store.root}
        )
        assert reply.status == 200
        assert (("connection", "close") in {(n.lower(), v) for n, v in reply.headers}) is ends


def test_a_number_of_a_metric_has_all_its_digits() -> None:
    """Of a rounded sum nobody can say by how much it has grown."""
    counted = Sample("summary", "a.b", 12_345_678_901, "Help.", sum=123_456_789.125)
    more = Sample("gauge", "c", 0.1 + 0.2, "Help.")
    found = samples(as_text([counted, more]))
    assert found["a_b_count"][0][1] == 12_345_678_901
    assert found["a_b_sum"][0][1] == 123_456_789.125
    assert found["c"][0][1] == 0.3


async def test_metrics_are_json_for_who_asks_for_no_form(store) -> None:
    status, said = await store.ask("GET", "sys/metrics")
    assert status == 200
    assert set(said) == {"Timestamp", "Gauges", "Points", "Counters", "Samples"}
    assert said["Timestamp"].endswith(" +0000 UTC")
    gauges = {each["Name"]: each["Value"] for each in said["Gauges"]}
    assert gauges["vault.core.unsealed"] == 1
    assert said["Samples"][0]["Name"] == "vault.core.handle_request"
    assert (await store.ask("GET", "sys/metrics?format=xml"))[0] == 400
    assert (await store.ask("GET", "sys/metrics", token=""))[0] == 403


def test_a_sum_keeps_its_digits_however_large_it_grows() -> None:
    """Six of them moved once in a second after eleven days of work: a rate was a staircase."""
    said = as_text([Sample("summary", "x", 7, "help", {"worker": "0"}, 123456789.5)])
    assert 'x_sum{worker="0"} 123456789.5\n' in said


async def test_a_request_stands_in_flight_until_it_is_answered(serve_with) -> None:
    class Slow:
        def __init__(self) -> None:
            self.begun, self.go_on = asyncio.Event(), asyncio.Event()

        @property
        def endpoints(self):
            return (Endpoint("{path*}", {"read": self._read}),)

        def exists(self, call) -> bool:
            return True

        async def _read(self, call):
            self.begun.set()
            await self.go_on.wait()
            return Result({})

    slow = Slow()
    async with serve_with(slow=lambda context, leases: slow) as store:
        await store.ask("POST", "sys/mounts/slow", {"type": "slow"})
        asking = asyncio.create_task(store.ask("GET", "slow/a?secret=marked"))
        await slow.begun.wait()
        status, said = await store.ask("GET", "sys/in-flight-req")
        assert status == 200
        by_path = {each["request_path"]: each for each in said.values()}
        assert set(by_path) == {"/v1/slow/a", "/v1/sys/in-flight-req"}
        assert by_path["/v1/slow/a"]["request_method"] == "GET"
        assert by_path["/v1/slow/a"]["client_remote_address"] == "127.0.0.1"
        assert "marked" not in json.dumps(said)
        slow.go_on.set()
        assert (await asking)[0] == 200
        _, said = await store.ask("GET", "sys/in-flight-req")
        assert [each["request_path"] for each in said.values()] == ["/v1/sys/in-flight-req"]
        # What is refused, and what cannot be recorded, is no longer under way either.
        assert (await store.ask("GET", "sys/absent"))[0] == 404
        store.device.broken = True
        assert (await store.ask("GET", "slow/a"))[0] == 503
        store.device.broken = False
        assert len((await store.ask("GET", "sys/in-flight-req"))[1]) == 1


async def test_the_host_is_described(store) -> None:
    _, said = await store.ask("GET", "sys/host-info")
    data = said["data"]
    assert said["warnings"] is None
    assert data["memory"]["total"] > data["memory"]["available"] > 0
    assert data["host"]["hostname"]
    assert len(data["cpu"]) >= 1
    assert data["cpu"][0]["modelName"]
    assert [each["cpu"] for each in data["cpu_times"]] == [
        f"cpu{number}" for number in range(len(data["cpu"]))
    ]
    assert all(each["user"] + each["idle"] > 0 for each in data["cpu_times"])
    assert 0 < data["disk"][0]["usedPercent"] <= 100


async def test_what_is_known_of_a_processor(store, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nmodel\t\t: 1\n"
        "model name\t: AMD EPYC\nstepping\t: 1\nmicrocode\t: 0x1\ncpu MHz\t\t: 2445.428\n"
        "cache size\t: 512 KB\nphysical id\t: 0\ncore id\t\t: 1\nflags\t\t: fpu vme\n\n"
    )
    (tmp_path / "stat").write_text("cpu  1 2\ncpu0 200 100 300 1000 5 0 6 7 0 0\nintr 1\n")
    (endpoint,) = HostInfo(store.handler._context, proc=tmp_path).endpoints
    said = endpoint.handlers["read"](None)
    assert said.data["cpu"] == [
        {
            "cpu": 0, "vendorId": "AuthenticAMD", "family": "25", "model": "1", "stepping": 1,
            "physicalId": "0", "coreId": "1", "cores": 1, "modelName": "AMD EPYC", "mhz": 2445.428,
            "cacheSize": 512, "flags": ["fpu", "vme"], "microcode": "0x1",
        }
    ]  # fmt: skip
    ticks = os.sysconf("SC_CLK_TCK")
    (times,) = said.data["cpu_times"]
    assert (times["cpu"], times["user"], times["steal"]) == ("cpu0", 200 / ticks, 7 / ticks)
    # What is not there is said, and keeps nothing else away.
    assert said.warnings == tuple(
        f"{name} is not known here: FileNotFoundError" for name in ("host", "memory")
    )


async def test_the_catalog_names_what_can_be_mounted_and_is_not_changed(store) -> None:
    at = "sys/plugins/catalog"
    _, said = await store.ask("GET", at)
    named = {"auth": AUTH_METHODS, "secret": {*SECRETS_ENGINES, "issuer"}, "database": set()}
    assert {kind: set(said["data"][kind]) for kind in named} == named
    kv = next(each for each in said["data"]["detailed"] if each["name"] == "kv")
    assert (kv["type"], kv["builtin"], kv["deprecation_status"]) == ("secret", True, "supported")
    for kind, names in named.items():
        status, said = await store.ask("LIST", f"{at}/{kind}")
        assert (status, said.get("data")) == (
            (200, {"keys": sorted(names)}) if names else (404, None)
        )
    assert (await store.ask("LIST", f"{at}/other"))[0] == 400
    assert (await store.ask("GET", f"{at}/auth/approle"))[1]["data"]["builtin"] is True
    assert (await store.ask("GET", f"{at}/secret/approle"))[0] == 404
    for method in ("POST", "DELETE"):
        status, said = await store.ask(method, f"{at}/auth/approle", {"command": "x"})
        assert (status, "cannot be changed" in said["errors"][0]) == (400, True)
    token = await store.token_with(f'path "{at}" {{ capabilities = ["read"] }}')
    assert (await store.ask("GET", at, token=token))[0] == 200
    token = await store.token_with(f'path "{at}/*" {{ capabilities = ["read"] }}')
    assert (await store.ask("GET", f"{at}/auth/approle", token=token))[0] == 403
    assert (await store.ask("POST", "sys/plugins/reload/backend", {}))[0] == 404


async def test_tokens_and_entities_are_counted_and_clients_are_not(store) -> None:
    async def total(what: str) -> int:
        _, said = await store.ask("GET", f"sys/internal/counters/{what}")
        (found,) = said["data"]["counters"].values()
        return found["total"]

    tokens, entities = await total("tokens"), await total("entities")
    await store.ask("POST", "auth/token/create", {"policies": "default"})
    await store.ask("POST", "identity/entity", {"name": "ada"})
    assert (await total("tokens"), await total("entities")) == (tokens + 1, entities + 1)
    for path in ("activity", "activity/monthly", "activity?start_time=2026-01-01T00:00:00Z"):
        assert await store.ask("GET", f"sys/internal/counters/{path}") == (204, None)
    _, said = await store.ask("GET", "sys/internal/counters/config")
    assert (said["data"]["enabled"], said["data"]["queries_available"]) == (
        "default-disabled", False,
    )  # fmt: skip
    config = "sys/internal/counters/config"
    assert (await store.ask("POST", config, {"enabled": "disable"}))[0] == 204
    assert (await store.ask("POST", config, {"enabled": "enable"}))[0] == 400
    assert (await store.ask("POST", config, {"retention_months": 24}))[0] == 400
    assert await store.ask("GET", "sys/internal/counters/requests") == (
        404, {"errors": ["The functionality has been removed on this path"]},
    )  # fmt: skip


async def test_log_levels_are_set_and_go_back(store) -> None:
    logger = logging.getLogger("strongroom.store.feed")
    before = logger.getEffectiveLevel()
    path = "sys/loggers/strongroom.store.feed"
    assert (await store.ask("POST", path, {"level": "debug"}))[0] == 204
    assert logger.getEffectiveLevel() == logging.DEBUG
    assert (await store.ask("GET", path))[1]["data"] == {"strongroom.store.feed": "debug"}
    assert "strongroom" in (await store.ask("GET", "sys/loggers"))[1]["data"]
    assert (await store.ask("DELETE", path))[0] == 204
    assert logger.getEffectiveLevel() == before
    assert (await store.ask("POST", "sys/loggers", {"level": "error"}))[0] == 204
    assert logging.getLogger("strongroom").level == logging.ERROR
    assert (await store.ask("DELETE", "sys/loggers"))[0] == 204
    assert logging.getLogger("strongroom").level != logging.ERROR
    assert (await store.ask("POST", path, {"level": "loud"}))[0] == 400
    assert (await store.ask("POST", "sys/loggers/asyncio", {"level": "debug"}))[0] == 400
    assert (await store.ask("GET", "sys/loggers/asyncio"))[0] == 404


async def test_an_answer_that_no_form_can_hold_is_an_internal_error(serve_with) -> None:
    """And never one that is waited for in vain, by its caller or by those of the same turn."""

    class Wide:
        @property
        def endpoints(self):
            return (
                Endpoint("at-once", {"read": lambda call: Result({"n": 2**70})}),
                Endpoint("later", {"read": self._later}),
            )

        def exists(self, call) -> bool:
            return True

        async def _later(self, call):
            return Result({"n": 2**70})

    wide = Wide()
    async with serve_with(wide=lambda context, leases: wide) as store:
        await store.ask("POST", "sys/mounts/wide", {"type": "wide"})
        asked = ["wide/at-once", "wide/later", "wide/later?x=1", "sys/mounts/wide"] * 3
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(store.ask("GET", each) for each in asked))
        assert [status for status, _ in answers] == [500, 500, 500, 200] * 3
        assert answers[0][1] == {"errors": ["internal error"]}
        failed = [each for each in store.records() if each.get("error") == "internal error"]
        assert len(failed) == 9


@pytest.mark.long
async def test_a_level_set_through_one_node_holds_on_every_node(nodes) -> None:
    logger, path = logging.getLogger("strongroom.store.feed"), "sys/loggers/strongroom.store.feed"
    assert (await nodes[0].ask("POST", path, {"level": "error"}))[0] == 204
    logger.setLevel(logging.INFO)  # As in a process of its own.
    await nodes[1].ask("GET", "auth/token/lookup-self")
    assert logger.level == logging.ERROR
    assert (await nodes[0].ask("DELETE", path))[0] == 204
    await nodes[1].ask("GET", "auth/token/lookup-self")
    logger.setLevel(logging.NOTSET)


CONFIG = """
storage "postgresql" { connection_url = "postgresql://u:marked-password@h/db" }
listener "tcp" {
  address = "127.0.0.1:8200"
  tls_disable = true
  telemetry { unauthenticated_metrics_access = true }
}
seal "transit" { address = "https://v" token = "marked-token" key_name = "k" mount_path = "transit/" }
audit "file" "main" { options = { file_path = "/var/log/marked-path.log" } }
api_addr = "https://store:8200"
default_lease_ttl = "1h"
"""


def test_what_is_secret_in_a_configuration_is_not_shown(tmp_path) -> None:
    (tmp_path / "c.hcl").write_text(CONFIG)
    shown = sanitized(settings_of(read_files([tmp_path / "c.hcl"])))
    assert "marked" not in json.dumps(shown)
    assert shown["storage"] == {"type": "postgresql", "engine": "postgresql"}
    assert shown["seals"] == [{"type": "transit", "disabled": False}]
    assert shown["listeners"][0]["config"]["address"] == "127.0.0.1:8200"
    assert (shown["api_addr"], shown["default_lease_ttl"]) == ("https://store:8200", 3600)
    # A Go program that wants a whole number stumbles over 90.0.
    assert repr(shown["default_max_request_duration"]) == "90"
    assert shown["listeners"][0]["config"]["telemetry"] == {"unauthenticated_metrics_access": True}


async def test_the_configuration_is_shown_to_who_may_see_it(store) -> None:
    assert (await store.ask("GET", "sys/config/state/sanitized"))[0] == 200
    assert (await store.ask("GET", "sys/config/state/sanitized", token=""))[0] == 403


@pytest.mark.parametrize("path", REASONS)
async def test_what_is_never_served_says_why(store, path) -> None:
    for method in ("GET", "LIST", "PUT", "DELETE"):
        for asked in (path, f"{path}/x/y"):
            status, said = await store.ask(method, f"sys/{asked}")
            assert status == (400 if path in ("storage/raft", "rekey/backup") else 404)
            assert REASONS[path] in said["errors"][0]
            assert (await store.ask(method, f"sys/{asked}", token=""))[0] == 403


async def test_the_capability_to_subscribe_is_known_and_lets_nobody_read(store) -> None:
    """As policies for Vault's events have it."""
    token = await store.token_with(
        'path "sys/events/subscribe/kv*" { capabilities = ["read"] }'
        ' path "secret/data/app" { capabilities = ["list", "subscribe"]'
        ' subscribe_event_types = ["kv*"] }'
    )
    assert (await store.ask("GET", "secret/data/app", token=token))[0] == 403
    asked = {"path": "secret/data/app"}
    _, said = await store.ask("POST", "sys/capabilities-self", asked, token=token)
    assert said["data"]["capabilities"] == ["list", "subscribe"]


async def test_the_page_about_running_the_store_names_every_metric(store) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "store-operations.md"
    named = set(
        re.findall(
            r"`((?:vault|strongroom)_[a-z_]+)`", page.read_text().partition("## Watching")[2]
        )
    )
    await store.ask("GET", "auth/token/lookup-self")
    _, text = await store.ask("GET", "sys/metrics?format=prometheus")
    shown = {name.removesuffix("_sum").removesuffix("_count") for name in samples(text)}
    assert {name.removesuffix("_sum").removesuffix("_count") for name in named} == shown
