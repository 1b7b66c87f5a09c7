"""What a configuration means, every check on a case that has it and one that has not, and SARIF."""

import base64
import dataclasses
import json
import threading
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jsonschema
import pytest

from strongroom.app.encrypt.check import print_report
from strongroom.app.main import main
from strongroom.encrypt.barrier import barrier
from strongroom.encrypt.check.api_metrics import key_hash
from strongroom.encrypt.check.api_metrics import parse as parse_metrics
from strongroom.encrypt.check.chain import chain_of, start_errors
from strongroom.encrypt.check.configuration import parse
from strongroom.encrypt.check.facts import ConfigFile, Facts, PluginFact, PluginSetup, Server
from strongroom.encrypt.check.manifest import Manifest, Mount, parse_flags, parse_manifest
from strongroom.encrypt.check.registry import CHECKS, check
from strongroom.encrypt.setup import encryption_configuration, static_pod
from strongroom.encrypt.stored import Stored
from strongroom.model.errors import Invalid

SARIF_SCHEMA = Path(__file__).parents[1] / "vectors/sarif-2.1.0-rtm.5.json"
KMS = "kms: {apiVersion: v2, name: %s, endpoint: 'unix:///run/kms.sock'}"
AESCBC = "aescbc: {keys: [{name: k1, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}]}"
ZEROS = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
SECRETBOX = f"secretbox: {{keys: [{{name: k1, secret: {ZEROS}}}]}}"
TWO_KEYS = f"aescbc: {{keys: [{{name: k2, secret: {ZEROS}}}, {{name: k1, secret: {ZEROS}}}]}}"
IDENTITY = "identity: {}"


def entry(resources: str, *providers: str) -> str:
    listed = ", ".join("{" + each + "}" for each in providers)
    return f"- {{resources: [{resources}], providers: [{listed}]}}\n"


def text(*entries: str) -> bytes:
    return (
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n"
        + "".join(entries)
    ).encode()


def facts(*entries: str, **more) -> Facts:
    config = ConfigFile("encryption.yaml", parse(text(*entries)), mode=0o600)
    return Facts(servers=(Server("s1", config=config, **more),))


def found(given: Facts, name: str) -> list[str]:
    return [each.severity for each in check(given).findings if each.check == name]


GOOD = entry("secrets", KMS % "a", IDENTITY)


# reading


def test_the_file_we_write_is_one_we_read() -> None:
    configuration = parse(encryption_configuration().encode())
    chain = chain_of(configuration, "secrets")
    assert [each.label for each in chain.providers] == ["kms v2 strongroom", "identity"]
    assert start_errors(configuration) == []


GIVEN = {
    "apiVersion": "apiserver.config.k8s.io/v1", "kind": "EncryptionConfiguration",
    "resources": [{"resources": ["secrets"], "providers": [{"identity": {}}]}],
}  # fmt: skip
OPEN = "kms: {apiVersion: v2, name: a, endpoint: 'unix:///a'"
KEY = base64.b64encode(b"k" * 32).decode()
BAD_TIMEOUTS = ("0s", "-1s", "3", "3x", "'3 s'", "''")


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(GIVEN, indent="\t").encode(),
        text(entry("secrets", IDENTITY)).replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + text(entry("secrets", IDENTITY)),
        b"apiVersion: v1\nkind: EncryptionConfig\nresources:\n"
        + text(entry("secrets", IDENTITY)).partition(b"resources:\n")[2],
        text(entry("secrets", "identity: {}, kms: null")),
        *(text(entry("secrets", OPEN + f", timeout: {each}}}")) for each in ("3s", "1m3.5s", "")),
        text(
            f"- resources: [secrets]\n  providers:\n  - aescbc:\n      keys:\n      - name: k\n        secret: |\n          {KEY[:20]}\n          {KEY[20:]}\n"
        ),
    ],
)
def test_what_the_api_server_takes_is_taken(content: bytes) -> None:
    """Each was read by the code of kube-apiserver 1.34, as was what is refused below."""
    parsed = parse(content)
    assert (start_errors(parsed), parsed.more) == ([], False)


def test_documents_after_the_first_are_not_read_and_that_is_told() -> None:
    whole = text(entry("secrets", "identity: {}"))
    for rest in (b"---\n" + whole, b"---\na: [\n"):
        parsed = parse(whole + rest)
        assert parsed.more
        given = Facts(servers=(Server("a", config=ConfigFile("e.yaml", parsed)),))
        found = [each for each in check(given).findings if each.check == "E00"]
        assert [each.severity for each in found] == ["warning"]
    assert not parse(whole + b"---\n# nothing\n").more


def test_names_of_kms_providers_are_told_apart() -> None:
    one, two = "kms: {name: a, endpoint: 'unix:///a'}", OPEN + "}"
    for providers, wrong in (((one, two), 1), ((two, two), 1), ((two, one), 0), ((one, one), 0)):
        assert len(start_errors(parse(text(entry("secrets", *providers))))) == wrong, providers


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"kind: Pod",
        b"kind: EncryptionConfiguration\napiVersion: v1\nresources: []",
        text(),
        text("- {resources: [secrets]}\n"),
        text(entry("secrets", "other: {}")),
        text(entry("secrets", "identity: {a: 1}")),
        text(entry("Secrets", IDENTITY)),
        text(entry("'*'", IDENTITY)),
        text(entry("secrets.*", IDENTITY)),
        text(entry("ingresses.extensions", IDENTITY)),
        text(entry("secrets", "kms: {apiVersion: v2, endpoint: 'unix:///a'}")),
        text(entry("secrets", "kms: {apiVersion: v3, name: a, endpoint: 'unix:///a'}")),
        text(entry("secrets", "kms: {apiVersion: v2, name: 'a:b', endpoint: 'unix:///a'}")),
        text(entry("secrets", "kms: {apiVersion: v2, name: a, endpoint: 'tcp://a'}")),
        text(
            entry("secrets", "kms: {apiVersion: v2, name: a, endpoint: 'unix:///a', cachesize: 1}")
        ),
        text(entry("secrets", "aescbc: {keys: [{name: k, secret: AAAA}]}")),
        text(entry("secrets", "aescbc: {keys: [{name: k, secret: '%'}]}")),
        text(entry("secrets", "aescbc: {keys: []}")),
        text(entry("secrets", IDENTITY)) + b"kind: EncryptionConfiguration\n",
        text(entry("secrets", IDENTITY)) + b"extra: 1\n",
        b"[" * 10_000,
        b'{"a":' * 100_000,
        b"{apiVersion: apiserver.config.k8s.io/v1, kind: EncryptionConfiguration, resources: []}",
        json.dumps(GIVEN).encode() + b" x",
        json.dumps(GIVEN).replace("{", '{"kind": "EncryptionConfiguration", ', 1).encode(),
        text(entry("secrets", "identity: ")),
        text(entry("secrets", "identity: {}, aescbc: {}")),
        *(text(entry("secrets", OPEN + f", timeout: {each}}}")) for each in BAD_TIMEOUTS),
        text(entry("secrets", "kms: {name: a, endpoint: 'unix:///a', cachesize: 0}")),
        text(entry("secrets", "kms: {name: a, endpoint: 'unix:///a', cachesize: x}")),
        text(entry("secrets", f"aescbc: {{keys: [{{name: '', secret: {KEY}}}]}}")),
    ],
)
@pytest.mark.long
def test_what_the_api_server_refuses_is_refused(content: bytes) -> None:
    with pytest.raises(Invalid) as caught:
        parse(content)
    assert caught.value.code == "bad-encryption-configuration"
    assert "AAAA" not in str(caught.value)


@pytest.mark.parametrize(
    ("entries", "resource", "labels"),
    [
        ([GOOD], "secrets", ["kms v2 a", "identity"]),
        ([GOOD], "configmaps", []),
        ([entry("'*.*'", KMS % "a")], "things.example.com", ["kms v2 a"]),
        ([entry("'*.'", KMS % "a")], "secrets", ["kms v2 a"]),
        ([entry("'*.'", KMS % "a")], "deployments.apps", []),
        (
            [entry("'*.apps'", KMS % "a"), entry("'*.*'", IDENTITY)],
            "deployments.apps",
            ["kms v2 a"],
        ),
        (
            [entry("secrets", IDENTITY), entry("secrets", KMS % "a")],
            "secrets",
            ["identity", "kms v2 a"],
        ),
        ([entry("events", IDENTITY), entry("'*.*'", KMS % "a")], "events", ["identity"]),
    ],
)
def test_the_effective_chain(entries, resource, labels) -> None:
    chain = chain_of(parse(text(*entries)), resource)
    assert [each.label for each in chain.providers] == labels
    assert len(chain.reasons) == max(1, len(labels))


@pytest.mark.parametrize(
    "entries",
    [
        [entry("'*.*'", KMS % "a"), entry("secrets", KMS % "b")],
        [entry("'*.'", KMS % "a"), entry("secrets", KMS % "b")],
        [entry("secrets, '*.'", KMS % "a")],
        [entry("secrets, secrets", KMS % "a")],
        [entry("secrets, '*.*'", KMS % "a")],
        [entry("secrets", KMS % "a"), entry("configmaps", KMS % "a")],
        [entry("serviceipallocations", KMS % "a")],
    ],
)
def test_rules_that_keep_the_server_from_starting(entries) -> None:
    assert start_errors(parse(text(*entries)))
    assert found(facts(*entries), "E00") == ["error"] * len(start_errors(parse(text(*entries))))


# the checks, each with and without its cause


def metrics(*lines: str) -> tuple:
    return parse_metrics("\n".join(lines))


SECRETS_PLAIN = {"secrets": Counter({Stored("plaintext"): 2, Stored("kms-v2", "a", "k"): 1})}
SECRETS_SEALED = {"secrets": Counter({Stored("kms-v2", "a", "k"): 3})}
FLAG = "encryption-provider-config"
RELOAD = f"{FLAG}-automatic-reload"


def with_manifest(entries: list[str], flags: dict, **more) -> Facts:
    return facts(*entries, manifest=Manifest(flags, **more))


def stored(entries: list[str], values: dict) -> Facts:
    return Facts(servers=facts(*entries).servers, stored=values)


def under(form: str, name: str) -> dict:
    return {"secrets": Counter({Stored(form, name): 1})}


CASES = [
    ("E01", with_manifest([GOOD], {}), with_manifest([GOOD], {FLAG: "/e"})),
    ("E02", facts(entry("secrets", IDENTITY, KMS % "a")), facts(GOOD)),
    ("E02", facts(entry("configmaps", KMS % "a")), facts(entry("'*.*'", KMS % "a"))),
    ("E02", facts(GOOD, metrics=metrics('apiserver_storage_transformation_operations_total{resource="secrets",status="OK",transformation_type="to_storage",transformer_prefix=""} 3')), facts(GOOD, metrics=metrics('apiserver_storage_transformation_operations_total{resource="pods",status="OK",transformation_type="to_storage",transformer_prefix=""} 3'))),
    ("E03", stored([GOOD], SECRETS_SEALED), stored([entry("secrets", KMS % "a")], SECRETS_SEALED)),
    ("E04", stored([entry("secrets", KMS % "a")], SECRETS_PLAIN), stored([GOOD], SECRETS_PLAIN)),
    ("E05", facts(entry("secret", KMS % "a")), facts(GOOD)),
    ("E05", facts(entry("secrets.v1", KMS % "a")), facts(entry("things.example.com", KMS % "a"))),
    ("E05", Facts(servers=facts(entry("things.example.com", KMS % "a")).servers, served=frozenset({"secrets"})), Facts(servers=facts(GOOD).servers, served=frozenset({"secrets"}))),
    ("E06", facts(GOOD), facts(entry("secrets, configmaps", KMS % "a"))),
    ("E07", facts(entry("secrets", IDENTITY), entry("secrets", KMS % "a")), facts(GOOD)),
    ("E08", facts(entry("secrets", IDENTITY), entry("'*.*'", KMS % "a")), facts(entry("'*.*'", KMS % "a"))),
    ("E09", stored([GOOD], SECRETS_PLAIN), stored([GOOD], SECRETS_SEALED)),
    ("E09", stored([entry("secrets", TWO_KEYS)], under("aescbc", "k1")), stored([entry("secrets", TWO_KEYS)], under("aescbc", "k2"))),
    ("E09", stored([entry("secrets", SECRETBOX, AESCBC)], under("aescbc", "k1")), stored([entry("secrets", SECRETBOX, AESCBC)], under("secretbox", "k1"))),
    ("E09", Facts(servers=facts(GOOD).servers, stored=SECRETS_SEALED, plugins=(PluginFact("a", "new"),)), Facts(servers=facts(GOOD).servers, stored=SECRETS_SEALED, plugins=(PluginFact("a", "k"), PluginFact("b", "x")))),
    ("E10", facts(GOOD, metrics=metrics('apiserver_encryption_config_controller_last_config_info{hash="sha256:00"} 1')), facts(GOOD, metrics=metrics(f'apiserver_encryption_config_controller_last_config_info{{hash="{parse(text(GOOD)).digest}"}} 1'))),
    ("E10", Facts(servers=(Server("s", Manifest({}), ConfigFile("f", parse(text(GOOD)), changed=9.0), started=5.0),)), Facts(servers=(Server("s", Manifest({RELOAD: "true"}), ConfigFile("f", parse(text(GOOD)), changed=9.0), started=5.0),))),
    ("E11", facts(GOOD, metrics=metrics('apiserver_encryption_config_controller_automatic_reloads_total{status="failure"} 2')), facts(GOOD, metrics=metrics('apiserver_encryption_config_controller_automatic_reloads_total{status="failure"} 2', 'apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds{status="failure"} 5', 'apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds{status="success"} 9'))),
    ("E12", with_manifest([GOOD], {FLAG: "/e/f", RELOAD: "true"}, mounts=(Mount("/e/f", "/h/f", ""),)), with_manifest([GOOD], {FLAG: "/e/f", RELOAD: "true"}, mounts=(Mount("/e", "/h", ""),))),
    ("E12", with_manifest([GOOD], {FLAG: "/e/f", RELOAD: "true"}, mounts=(Mount("/e/f", "/h/f", "File"),)), with_manifest([GOOD], {FLAG: "/e/f", RELOAD: "true"}, mounts=(Mount("/e", "/h", "Directory"),))),
    ("E13", Facts(servers=(*facts(GOOD).servers, Server("s2", config=ConfigFile("g", parse(text(entry("secrets", KMS % "b"))))))), Facts(servers=(*facts(GOOD).servers, Server("s2", config=ConfigFile("g", parse(text(GOOD))))))),
    ("E14", stored([entry("secrets", KMS % "b", IDENTITY)], SECRETS_SEALED), stored([GOOD], SECRETS_SEALED)),
    ("E14", stored([entry("secrets", SECRETBOX)], under("aescbc", "k1")), stored([entry("secrets", SECRETBOX, AESCBC)], under("aescbc", "k1"))),
    ("E15", Facts(plugins=(PluginFact("a", error="no answer"),)), Facts(plugins=(PluginFact("a", "k"),))),
    ("E16", facts(entry("secrets", AESCBC)), facts(GOOD)),
    ("E17", facts(entry("secrets", "kms: {name: a, endpoint: 'unix:///a'}")), facts(GOOD)),
    ("E18", Facts(plugins=(PluginFact("a", "3"),)), Facts(plugins=(PluginFact("a", "x3kQ"),))),
    ("E18", Facts(plugins=(PluginFact("a", "xy"), PluginFact("b", "xy"))), Facts(plugins=(PluginFact("a", "xy"), PluginFact("b", "yx")))),
    ("E19", Facts(servers=(Server("s", config=ConfigFile("f", parse(text(entry("secrets", AESCBC))), mode=0o644)),)), facts(GOOD)),
    ("E20", Facts(plugins=(PluginFact("a", "k", mode=0o777),)), Facts(plugins=(PluginFact("a", "k", mode=0o600),))),
    ("E20", facts(entry("secrets", "kms: {apiVersion: v2, name: a, endpoint: 'unix:///@a'}")), facts(GOOD)),
    ("E21", Facts(setups=(PluginSetup("p", ("https://vault.vault.svc:8200",)),)), Facts(setups=(PluginSetup("p", ("https://vault.example.com:8200",)),))),
    ("E21", Facts(setups=(PluginSetup("p", ("https://10.96.0.9:8200",)),), service_addresses=frozenset({"10.96.0.9"})), Facts(setups=(PluginSetup("p", ("https://192.0.2.9:8200",)),), service_addresses=frozenset({"10.96.0.9"}))),
    ("E21", Facts(servers=(Server("s", Manifest({"service-cluster-ip-range": "10.96.0.0/16,fd00::/108"})),), setups=(PluginSetup("p", ("https://[fd00::9]:8200",)),)), Facts(servers=(Server("s", Manifest({"service-cluster-ip-range": "10.96.0.0/16"})),), setups=(PluginSetup("p", ("https://10.97.0.1:8200", "https://vault.example.com")),))),
    ("E21", Facts(setups=(PluginSetup("p", (), ("/var/run/secrets/kubernetes.io/serviceaccount/token",)),)), Facts(setups=(PluginSetup("p", (), ("/etc/strongroom/token",)),))),
    ("E21", Facts(setups=(PluginSetup("p", manifest=parse_manifest(b"kind: DaemonSet\nspec: {template: {spec: {containers: [{name: a}]}}}")),)), Facts(setups=(PluginSetup("p", manifest=parse_manifest(static_pod("i").encode())),))),
    ("E22", with_manifest([GOOD], {}, liveness_path="/healthz"), with_manifest([GOOD], {}, liveness_path="/livez")),
    ("E23", Facts(unsafe_deleters=("User bob",)), Facts(unsafe_deleters=())),
    ("E24", Facts(backups={"b": 1.0}, rotated=2.0), Facts(backups={"b": 3.0}, rotated=2.0)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    CASES,
    ids=[f"{name}-{index}" for index, (name, *_) in enumerate(CASES)],
)
def test_a_check_finds_its_cause_and_nothing_else_does(name: str, bad: Facts, good: Facts) -> None:
    assert found(bad, name)
    assert not found(good, name)
    for each in check(bad).findings:
        assert each.message


def test_writes_in_plain_text_from_before_a_reload_are_no_error() -> None:
    """A server that reloads its file counts them until it ends; a file it has not loaded is none."""
    writes = (
        'apiserver_storage_transformation_operations_total{resource="secrets",status="OK",'
        'transformation_type="to_storage",transformer_prefix=""} 3\n'
    )
    for configured, digest, severity in (
        (GOOD, parse(text(GOOD)).digest, ["warning"]),
        (GOOD, "sha256:other", ["error"]),
        (entry("configmaps", KMS % "a"), parse(text(entry("configmaps", KMS % "a"))).digest, ["error"] * 2),
    ):  # fmt: skip
        loaded = f'apiserver_encryption_config_controller_last_config_info{{hash="{digest}"}} 1\n'
        assert found(facts(configured, metrics=metrics(writes + loaded)), "E02") == severity


BOTH = entry("secrets, configmaps", KMS % "a", IDENTITY)
MAPS_PLAIN = SECRETS_SEALED | {"configmaps": Counter({Stored("plaintext"): 1})}
MAPS_SEALED = SECRETS_SEALED | {"configmaps": Counter({Stored("kms-v2", "a", "k"): 1})}


@pytest.mark.parametrize(
    ("entries", "values", "severity"),
    [
        ([BOTH], MAPS_PLAIN, "note"),
        ([BOTH], MAPS_SEALED, "warning"),
        ([entry("'*.*'", KMS % "a", IDENTITY)], MAPS_PLAIN, "note"),
        # An entry of their own is not touched when identity leaves that of secrets.
        ([GOOD, entry("configmaps", KMS % "b", IDENTITY)], MAPS_PLAIN, "warning"),
        # Another prefix or etcd, or none yet: nothing was seen that speaks for it.
        ([GOOD], {}, "note"),
        ([BOTH], {"configmaps": MAPS_SEALED["configmaps"]}, "note"),
    ],
)
def test_identity_may_go_once_nothing_of_its_entry_needs_it(entries, values, severity) -> None:
    given = stored(entries, values)
    assert found(given, "E03") == [severity]
    said = [each.hint for each in check(given).findings if each.check == "E03"]
    assert said[0].startswith("remove identity") is (severity == "warning")
    assert not found(given, "E04")


def test_identity_is_missed_by_whatever_needs_it() -> None:
    assert found(stored([entry("secrets, configmaps", KMS % "a")], MAPS_PLAIN), "E04") == ["error"]
    assert found(stored([entry("'*.*'", KMS % "a")], MAPS_PLAIN), "E04") == ["error"]
    # What nothing covers has no list that it could be missing in.
    assert not found(stored([entry("secrets", KMS % "a")], MAPS_PLAIN), "E04")


def test_an_etcd_without_values_was_not_checked() -> None:
    """With another prefix nothing is stale because nothing is there."""
    nothing = check(stored([GOOD], {}))
    assert {"E04", "E09", "E14"} <= {
        name for name, text in nothing.unchecked.items() if "--prefix" in text
    }
    assert not {"E04", "E09", "E14"} & set(check(stored([GOOD], SECRETS_SEALED)).unchecked)
    flags = {FLAG: "/e", "etcd-servers-overrides": "/secrets#https://127.0.0.1:2479"}
    elsewhere = replace(with_manifest([GOOD], flags), stored=SECRETS_SEALED)
    assert "etcd-servers-overrides" in check(elsewhere).unchecked["E09"]


def test_every_check_has_a_case() -> None:
    assert {each.id for each in CHECKS} == {name for name, *_ in CASES} | {"E00"}


def test_what_was_not_looked_at_is_said() -> None:
    report = check(facts(GOOD))
    assert {"E01", "E09", "E15", "E21", "E23", "E24"} <= set(report.unchecked)
    assert "E02" not in report.unchecked
    assert check(Facts()).unchecked["E02"]


# manifests


MANIFEST = b"""
apiVersion: v1
kind: Pod
spec:
  hostNetwork: true
  containers:
  - name: kube-apiserver
    command: [kube-apiserver, --etcd-servers=https://a, --encryption-provider-config=/etc/enc/e.yaml, --secure-port, "6443", --allow-privileged]
    livenessProbe: {httpGet: {path: /livez}}
    volumeMounts: [{name: enc, mountPath: /etc/enc}]
  volumes: [{name: enc, hostPath: {path: /host/enc, type: Directory}}]
"""


def test_a_manifest_is_read() -> None:
    read = parse_manifest(MANIFEST)
    assert read.flags["secure-port"] == "6443"
    assert read.flags["allow-privileged"] == "true"
    assert read.host_path("/etc/enc/e.yaml")[0] == "/host/enc/e.yaml"
    assert read.host_path("/other/e.yaml") == ("/other/e.yaml", None)
    alone = MANIFEST.replace(
        b"mountPath: /etc/enc}", b"mountPath: /etc/enc/e.yaml, subPath: a.yaml}"
    )
    assert parse_manifest(alone).host_path("/etc/enc/e.yaml")[0] == "/host/enc/a.yaml"
    beside = MANIFEST.replace(b"  - name: kube", b"  - {name: log, command: [log]}\n  - name: kube")
    assert parse_manifest(beside) == read
    assert parse_flags(["x", "--a", "b", "--c"]) == {"a": "b", "c": "true"}
    for bad in (b"[", b"[]", b"kind: Pod\nspec: {}", b"kind: Pod\nspec: 1"):
        with pytest.raises(Invalid):
            parse_manifest(bad)


# the command


@pytest.fixture
def files(tmp_path):
    (tmp_path / "host/enc").mkdir(parents=True)
    (tmp_path / "host/enc/e.yaml").write_bytes(
        text(entry("secret", KMS % "a"), entry("secrets", IDENTITY))
    )
    (tmp_path / "m.yaml").write_bytes(MANIFEST)
    return tmp_path


def test_json_and_text_tell_the_same(files, capsys) -> None:
    words = ["encrypt", "check", "--manifest", str(files / "m.yaml"), "--root", str(files)]
    assert main([*words, "--format", "json"]) == 1
    said = json.loads(capsys.readouterr().out)
    assert {"E02", "E05"} <= {each["check"] for each in said["findings"]}
    (secrets, *_) = [each for each in said["effective"] if each["resource"] == "secrets"]
    assert (secrets["encrypts"], secrets["writer"]) == (False, "identity")
    assert main(words) == 1
    shown = capsys.readouterr().out
    assert "PLAIN TEXT" in shown
    assert "not checked" in shown


def test_sarif_is_valid_and_has_rules_results_and_places(files, capsys) -> None:
    manifest, root = str(files / "m.yaml"), str(files)
    main(["encrypt", "check", "--manifest", manifest, "--root", root, "--format", "sarif"])
    log = json.loads(capsys.readouterr().out)
    jsonschema.Draft4Validator(json.loads(SARIF_SCHEMA.read_text())).validate(log)
    (run,) = log["runs"]
    rules = {each["id"] for each in run["tool"]["driver"]["rules"]}
    assert rules == {each.id for each in CHECKS}
    assert {each["ruleId"] for each in run["results"]} <= rules
    place = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert place.endswith("e.yaml")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], "nothing-to-check"),
        (["--config", "/absent"], "no-file"),
        (["--config", "/dev/null", "--rotated", "x", "--backups", "/tmp"], "bad-time"),
    ],
)
def test_a_bad_call_is_refused(words, code, capsys) -> None:
    assert main(["encrypt", "check", *words]) == 2
    assert f"[{code}]" in capsys.readouterr().err


# the barrier


def status(key: str, time: float, provider: str = "a") -> str:
    return f'apiserver_envelope_encryption_key_id_hash_status_last_timestamp_seconds{{key_id_hash="{key_hash(key)}",provider_name="{provider}"}} {time}'


def loads(how: str, time: float) -> str:
    name = "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds"
    return f'{name}{{status="{how}"}} {time}'


def write(key: str, time: float, provider: str = "a", kind: str = "to_storage") -> str:
    return f'apiserver_envelope_encryption_key_id_hash_last_timestamp_seconds{{key_id_hash="{key_hash(key)}",provider_name="{provider}",transformation_type="{kind}"}} {time}'


@pytest.mark.parametrize(
    ("lines", "passes"),
    [
        ([status("new", 9)], True),
        ([status("old", 5), status("new", 9), write("old", 6), write("new", 9)], True),
        ([status("old", 9), status("new", 5)], False),
        ([status("new", 40), loads("success", 20)], True),
        # For some seconds the probes of the file before it go on.
        ([status("new", 32), loads("success", 20)], False),
        # Another file may have the provider no longer, whose times stay.
        ([status("new", 9), loads("success", 10)], False),
        ([status("new", 9), loads("failure", 10)], True),
        ([status("new", 9), write("old", 10)], False),
        ([status("new", 9), write("old", 9)], False),
        ([status("new", 9), write("old", 8)], True),
        ([status("new", 9), write("old", 10, "b")], True),
        # The last write counts, and no read: what lies under the old key is read by anybody.
        ([status("new", 9), write("new", 9), write("old", 10)], False),
        ([status("new", 9), write("old", 9), write("new", 10)], True),
        ([status("new", 9), write("old", 10, kind="from_storage")], True),
        ([status("new", 9, "b")], False),
        ([], False),
    ],
)
def test_the_barrier_waits_for_every_server(lines, passes) -> None:
    servers = {"one": metrics(status("new", 9)), "two": metrics(*lines)}
    state = barrier(servers, "a", "new")
    assert state.passed is passes
    assert list(state.behind) == ([] if passes else ["two"])


def _resources(*names: str) -> dict:
    return {
        "resources": [
            {"name": name, "kind": name, "namespaced": False, "verbs": ["list"]} for name in names
        ]
    }


ROLES = "rbac.authorization.k8s.io/v1"
ANSWERS = {
    "/api/v1": _resources("services", "secrets"),
    "/apis": {
        "groups": [
            {
                "name": ROLES[:-3],
                "versions": [{"groupVersion": ROLES, "version": "v1"}],
                "preferredVersion": {"groupVersion": ROLES, "version": "v1"},
            }
        ]
    },
    f"/apis/{ROLES}": _resources("clusterroles", "clusterrolebindings", "roles", "rolebindings"),
}


class Restricted(BaseHTTPRequestHandler):
    """An API server whose user may ask what there is, and nothing of it."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        said = json.dumps(ANSWERS.get(path, {"message": f"may not get {path}"})).encode()
        self.send_response(200 if path in ANSWERS else 403)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_what_the_user_may_not_ask_is_not_looked_at_and_the_rest_is(tmp_path, capsys) -> None:
    """Who might not list roles learned nothing at all."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Restricted)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    cluster = {"name": "a", "cluster": {"server": address}}
    context = {"name": "a", "context": {"cluster": "a", "user": "a"}}
    user = {"name": "a", "user": {"token": "t"}}
    named = {"clusters": [cluster], "contexts": [context], "users": [user], "current-context": "a"}
    (tmp_path / "kubeconfig").write_text(json.dumps(named))
    config = tmp_path / "config"
    config.write_bytes(text(entry("secret", SECRETBOX)))
    plugin = tmp_path / "plugin"
    plugin.write_text(static_pod("i"))
    words = ["--config", str(config), "--live", "--kubeconfig", str(tmp_path / "kubeconfig")]
    words += ["--plugin-manifest", str(plugin)]
    try:
        assert main(["encrypt", "check", *words, "--format", "json"]) == 1
    finally:
        server.shutdown()
        server.server_close()
    found = capsys.readouterr()
    said = json.loads(found.out)
    # It has heard which resources there are.
    assert "E05" in {each["check"] for each in said["findings"]}
    assert said["not_checked"]["E23"] == "roles and bindings (--live)"
    assert "E11" in said["not_checked"]
    # What was looked at in part is not passed over either.
    assert said["not_checked"]["E02"] == f"the metrics of {address}, which were refused"
    assert said["not_checked"]["E21"] == "the addresses of services, which were refused"
    for what in ("services", "roles and bindings", f"the metrics of {address}"):
        assert f"not looked at: {what}: " in found.err
    assert "may not get /metrics" in found.err


def test_where_no_configuration_was_seen_nobody_is_reassured(capsys) -> None:
    said = "Whether anything is encrypted was not looked at"
    live = Facts(unsafe_deleters=())
    print_report(check(live), live)
    assert capsys.readouterr().out.startswith(said)
    without_a_flag = Facts(servers=(Server("a", Manifest({})),))
    print_report(check(without_a_flag), without_a_flag)
    assert said not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "runs"),
    [
        ("k3s\0server\0--secrets-encryption\0", False),
        ("kube-apiserver-arg+:\n- 'encryption-provider-config=/e.yaml'\n", False),
        ("/usr/bin/other --x", False),
        ("apiVersion: v1\nkind: Pod\nspec: {containers: [{command: [other]}]}\n", False),
        ("/usr/local/bin/kube-apiserver --etcd-servers=x", True),
        ("--etcd-servers=x\n--secure-port=6443\n", True),
        ("/go-runner --log-file=/var/log/a /usr/local/bin/kube-apiserver --etcd-servers=x", True),
        ("tini -g -- kube-apiserver --etcd-servers=x", True),
        ("/go-runner --log-file=/var/log/a /usr/local/bin/other --on kube-apiserver", False),
        (
            "apiVersion: v1\nkind: Pod\nspec: {containers: [{command: [other, --on, kube-apiserver]},"
            " {command: [sh, -c, 'exec kube-apiserver --secure-port=1']}]}\n",
            True,
        ),
    ],
)
def test_flags_of_another_program_say_nothing_of_an_api_server(
    content, runs, tmp_path, capsys
) -> None:
    (tmp_path / "m").write_text(content)
    status = main(["encrypt", "check", "--manifest", str(tmp_path / "m")])
    out, err = capsys.readouterr()
    assert (status, "E01" in out, "[no-api-server]" in err) == (
        (1, True, False) if runs else (2, False, True)
    )


def test_a_file_that_a_flag_names_and_is_not_there_is_a_finding(tmp_path, capsys) -> None:
    (tmp_path / "m").write_text(f"kube-apiserver --{FLAG}=/absent.yaml")
    assert main(["encrypt", "check", "--manifest", str(tmp_path / "m")]) == 1
    out = capsys.readouterr().out
    assert "E00" in out
    assert "does not start without its file: cannot read /absent.yaml" in out
    (tmp_path / "m").write_text("kube-apiserver '--x")
    assert main(["encrypt", "check", "--manifest", str(tmp_path / "m")]) == 2
    assert "[bad-manifest]" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("resources", "encrypts", "wrong"),
    [
        ("secrets.", True, set()),
        ("configmaps, secrets.", True, set()),
        ("'secrets..'", False, {"E02", "E05"}),
        # For the API server they are the same, so it does not start.
        ("secrets, secrets.", True, {"E00"}),
        ("'*.', secrets.", True, {"E00"}),
    ],
)
def test_the_core_group_may_be_written_out(resources, encrypts, wrong) -> None:
    """After the dot of a name comes its group, which may be empty."""
    given = facts(entry(resources, KMS % "a", IDENTITY))
    assert chain_of(parse(text(entry(resources, KMS % "a"))), "secrets").encrypts is encrypts
    served = dataclasses.replace(given, served=frozenset({"secrets", "configmaps"}))
    known = {"E00", "E02", "E05"}
    assert known & {each.check for each in check(served).findings} == wrong


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("'*.app'", ["error"]),
        ("'*.apps'", []),
        ("'*.'", []),
        ("'*.*'", []),
        ("'*.example.com'", []),
    ],
)
def test_a_wildcard_of_a_group_that_is_not_there_matches_nothing(name, expected) -> None:
    served = frozenset({"secrets", "deployments.apps", "things.example.com"})
    given = facts(entry(name, KMS % "a"))
    assert found(dataclasses.replace(given, served=served), "E05") == expected
    assert found(given, "E05") == []  # Offline nobody knows which groups there are.
