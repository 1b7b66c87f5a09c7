"""Vault's configuration files, HCL and JSON, become the same settings; what means nothing is named."""

import json
import os
import socket
import stat
from ipaddress import ip_network
from pathlib import Path

import pytest

from strongroom.app.main import main
from strongroom.app.store_config.flags import dev_settings
from strongroom.app.store_config.seals import Means, auto_seal
from strongroom.app.store_config.settings import (
    INMEM,
    POSTGRESQL,
    SQLITE,
    ServerSettings,
    settings_of,
)
from strongroom.app.store_config.socket_rights import SocketRights
from strongroom.app.store_config.sources import Stanza, read_files
from strongroom.app.store_config.user_lockout import forced, is_off
from strongroom.crypto.keyfile import create_key_file
from strongroom.model.clock import SystemClock
from strongroom.model.errors import Invalid, Unavailable
from strongroom.store.auth.lockout import Rules, rules_of
from strongroom.store.engine.contract import MountRow
from strongroom.wire.forwarded import ForwardedFor

FULL = """
storage "raft" { path = "/srv/data" node_id = "one" }
listener "tcp" {
  address       = "0.0.0.0:8200"
  tls_cert_file = "/tls/crt"
  tls_key_file  = "/tls/key"
  tls_min_version = "tls13"
  telemetry { unauthenticated_metrics_access = true }
}
listener "tcp" { address = ":8202" tls_disable = "true" max_request_size = 1024 }
seal "transit" { address = "https://other:8200" token = "t" key_name = "k" mount_path = "transit/" }
audit "file" "to-file" {
  description = "all of it"
  options { file_path = "/var/log/audit.log" log_raw = true }
}
telemetry { prometheus_retention_time = "30s" }
api_addr = "https://vault:8200"
cluster_addr = "https://vault:8201"
ui = true
log_level = "Warning"
disable_mlock = true
default_lease_ttl = "1h"
max_lease_ttl = "24h"
default_max_request_duration = "30s"
"""
AS_JSON = {
    "storage": {"raft": {"path": "/srv/data", "node_id": "one"}},
    "listener": [
        {
            "tcp": {
                "address": "0.0.0.0:8200", "tls_cert_file": "/tls/crt", "tls_key_file": "/tls/key",
                "tls_min_version": "tls13", "telemetry": {"unauthenticated_metrics_access": True},
            }
        },
        {"tcp": {"address": ":8202", "tls_disable": "true", "max_request_size": 1024}},
    ],
    "seal": {
        "transit": {
            "address": "https://other:8200", "token": "t", "key_name": "k", "mount_path": "transit/"
        }
    },
    "audit": {
        "file": {
            "to-file": {
                "description": "all of it",
                "options": {"file_path": "/var/log/audit.log", "log_raw": True},
            }
        }
    },
    "telemetry": {"prometheus_retention_time": "30s"},
    "api_addr": "https://vault:8200", "cluster_addr": "https://vault:8201", "ui": True,
    "log_level": "Warning", "disable_mlock": True, "default_lease_ttl": "1h", "max_lease_ttl": "24h",
    "default_max_request_duration": 30,
}  # fmt: skip


def read(folder: Path, text: str, name: str = "c.hcl") -> ServerSettings:
    (folder / name).write_text(text)
    return settings_of(read_files([folder / name]))


def test_a_whole_file_is_understood(tmp_path: Path) -> None:
    found = read(tmp_path, FULL)
    assert (found.storage.engine, found.storage.path) == (SQLITE, Path("/srv/data"))
    first, second = found.listeners
    assert (first.host, first.port, first.tls.minimum) == ("0.0.0.0", 8200, "tls13")
    assert first.opens == {"metrics"}
    assert (second.port, second.tls, second.body_bytes, second.is_plain_abroad) == (
        8202, None, 1024, True,
    )  # fmt: skip
    assert found.seal.labels == ("transit",)
    (device,) = found.audit
    assert (device.type, device.path, device.options["log_raw"]) == ("file", "to-file/", "true")
    assert (found.default_ttl, found.max_ttl, found.log_level) == (3600, 86400, "warning")
    assert (found.ui, found.api_addr) == (True, "https://vault:8200")
    # Only the engine that stands in for raft is worth a note; nothing is unknown.
    assert len(found.notes) == 1
    assert "SQLite" in found.notes[0]


def test_json_and_hcl_say_the_same(tmp_path: Path) -> None:
    one, other = read(tmp_path, FULL), read(tmp_path, json.dumps(AS_JSON), "c.json")
    assert one.request_seconds == 30
    plain = ("storage", "listeners", "audit", "default_ttl", "max_ttl", "request_seconds")
    for name in (*plain, "api_addr", "ui"):
        assert getattr(one, name) == getattr(other, name)
    assert one.seal.fields == other.seal.fields


@pytest.mark.parametrize("level", ["trace", "info", "notice", "WARN", "error", "err"])
def test_every_level_of_vaults_log_is_one(tmp_path: Path, level: str) -> None:
    text = f'storage "inmem" {{}} listener "tcp" {{ tls_disable = 1 }} log_level = "{level}"'
    assert read(tmp_path, text).log_level == level.lower()


@pytest.mark.parametrize(
    ("key", "code"), [("level", "bad-log-level"), ("format", "bad-log-format")]
)
def test_a_level_or_form_of_the_log_that_is_none_is_refused(
    tmp_path: Path, key: str, code: str
) -> None:
    with pytest.raises(Invalid) as refused:
        read(tmp_path, f'storage "inmem" {{}} listener "tcp" {{ tls_disable = 1 }} log_{key} = "x"')
    assert refused.value.code == code


MISSPELT = """
storage "inmem" {{}}
{top}
listener "tcp" {{
  tls_cert_file = "c"
  tls_key_file  = "k"
  tls_client_ca_file = "ca"
  {field}
}}
"""


@pytest.mark.parametrize(
    ("top", "field", "name"),
    [
        ("", 'tls_require_and_verify_client_cert = "ture"', "tls_require_and_verify_client_cert"),
        ("", 'tls_disable = "disabled"', "tls_disable"),
        ("", "tls_disable_client_certs = 2", "tls_disable_client_certs"),
        ("", 'disable_unauthed_rekey_endpoints = "ture"', "disable_unauthed_rekey_endpoints"),
        (
            "",
            'x_forwarded_for_authorized_addrs = "10.0.0.1" x_forwarded_for_reject_not_present = "ture"',
            "x_forwarded_for_reject_not_present",
        ),
        ('ui = "ture"', "", "ui"),
        ('seal "static" { disabled = "ture" }', "", "disabled"),
    ],
)
def test_a_field_that_is_neither_true_nor_false_is_refused_with_its_place(
    tmp_path: Path, top: str, field: str, name: str
) -> None:
    """It counted as false: a listener let everybody in that had to ask for certificates."""
    with pytest.raises(Invalid, match=rf"c\.hcl:\d+: {name} is true or false"):
        read(tmp_path, MISSPELT.format(top=top, field=field))


@pytest.mark.parametrize("word", ['"T"', '"TRUE"', '"yes"', '"1"', "1", "true"])
def test_a_true_field_may_be_spelt_as_in_go(tmp_path: Path, word: str) -> None:
    found = read(tmp_path, f'storage "inmem" {{}} listener "tcp" {{ tls_disable = {word} }}')
    assert found.listeners[0].tls is None


def test_files_of_a_folder_and_further_files_add_up(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    (folder / "1.hcl").write_text('backend "inmem" {} log_level = "info"')
    (folder / "2.json").write_text('{"listener": {"tcp": {"tls_disable": 1}}}')
    (folder / "ignored.txt").write_text("not a configuration {")
    (tmp_path / "last.hcl").write_text('log_level = "debug"')
    found = settings_of(read_files([folder, tmp_path / "last.hcl"]))
    assert (found.storage.engine, found.log_level) == (INMEM, "debug")
    assert (found.listeners[0].host, found.listeners[0].port) == ("127.0.0.1", 8200)


def test_unknown_keys_are_named_with_their_place(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        'storage "inmem" {}\nlistener "tcp" {\n tls_disable = 1\n bogus = 2 }\n\nwrong = 3\n'
        'entropy "seal" { mode = "augmentation" }\n plugin_directory = "/p"',
    )
    said = "\n".join(found.notes)
    assert "c.hcl:6: unknown or unsupported field 'wrong'" in said
    assert "unknown or unsupported listener field 'bogus'" in said
    assert "unknown or unsupported stanza 'entropy'" in said
    assert "plugin_directory has no effect: there are no external plugins" in said


def test_what_is_passed_over_elsewhere_is_named_here(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        'storage "raft" { path = "d" node_id = "n" retry_join { leader_api_addr = "http://b" } }\n'
        'listener "tcp" { tls_disable = 1 }\ncluster_name = "prod"\nlicense_path = "/l"\n'
        'enable_response_header_hostname = true\nlog_requests_level = "info"\n'
        "disable_mlock = true\n",
    )
    said = "\n".join(found.notes)
    assert "c.hcl:1: of storage 'raft' these have no effect: retry_join" in said
    for name in ("cluster_name", "license_path", "enable_response_header_hostname",
                 "log_requests_level"):  # fmt: skip
        assert f"{name} has no effect: " in said
    assert "disable_mlock" not in said


@pytest.mark.parametrize(
    ("top", "first", "second", "seconds", "noted"),
    [
        ("", "", "", 90, False),
        ("", 'max_request_duration = "5s"', 'max_request_duration = "5s"', 5, False),
        ('default_max_request_duration = "30s"', "max_request_duration = 120", "", 120, True),
        ('default_max_request_duration = "30s"', 'max_request_duration = "2s"', "", 30, True),
    ],
)
def test_a_request_has_the_longest_time_of_a_listener(
    tmp_path: Path, top, first, second, seconds, noted
) -> None:
    """One timer watches all calls, so that there is one time; it is said where they differ."""
    found = read(
        tmp_path,
        f'storage "inmem" {{}}\n{top}\nlistener "tcp" {{\ntls_disable = 1\n{first}\n}}\n'
        f'listener "tcp" {{\naddress = ":8300"\ntls_disable = 1\n{second}\n}}\n',
    )
    assert found.request_seconds == seconds
    assert any("max_request_duration is one time" in note for note in found.notes) == noted


@pytest.mark.parametrize(
    ("said", "noted"),
    [
        ('max_lease_ttl = "1h" default_lease_ttl = "2h"', True),
        ('max_lease_ttl = "1h"', False),
        ('max_lease_ttl = "2h" default_lease_ttl = "1h"', False),
    ],
)
def test_a_default_time_beyond_the_longest_is_the_longest_and_is_named(
    tmp_path: Path, said: str, noted: bool
) -> None:
    text = f'storage "inmem" {{}} listener "tcp" {{ tls_disable = 1 }} {said}'
    found = read(tmp_path, text)
    assert found.default_ttl == 3600
    assert any("default_lease_ttl is longer" in each for each in found.notes) == noted


def test_a_unix_socket_is_given_to_whom_it_is_for(tmp_path: Path) -> None:
    stanza = 'listener "unix" {\naddress = "s"\nsocket_mode = "0620"\nsocket_group = "GROUP"\n}'
    own = str(os.getgid())
    rights = read(tmp_path, 'storage "inmem" {}\n' + stanza.replace("GROUP", own))
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        rights.listeners[0].rights.give(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o620
        assert path.stat().st_gid == os.getgid()
        SocketRights().give(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o620
        with pytest.raises(Invalid, match="no such group"):
            SocketRights(group="nobody-has-this").give(path)
        with pytest.raises(Invalid, match="no such user"):
            SocketRights(user="²").give(path)
    with pytest.raises(Unavailable, match="cannot be given away"):
        SocketRights(mode=0o600).give(tmp_path / "none")


def test_a_configuration_holds_beside_dev(tmp_path: Path, capsys) -> None:
    """But for where rows lie and how they are sealed, which is said."""
    (tmp_path / "c.hcl").write_text(
        'storage "file" { path = "d" }\nseal "transit" {}\nwrong = 1\ndefault_lease_ttl = "1h"\n'
        'listener "tcp" {\naddress = "127.0.0.1:8300"\ntls_disable = 1\n}\n'
        'log_level = "debug"\naudit "stdout" "a" {}\n'
    )
    found = dev_settings("127.0.0.1", 8200, None, read_files([tmp_path / "c.hcl"]))
    assert (found.storage.engine, found.seal, found.workers) == (INMEM, None, 1)
    assert [each.port for each in found.listeners] == [8200, 8300]
    assert found.listeners[0].opens
    assert (found.default_ttl, found.log_level, len(found.audit)) == (3600, "debug", 1)
    said = [note.rpartition("c.hcl:")[2] for note in found.notes]
    assert said == [
        "1: storage has no effect beside -dev", "2: seal has no effect beside -dev",
        "3: unknown or unsupported field 'wrong'",
    ]  # fmt: skip
    assert main(["server", "-dev", "-test-config", f"-config={tmp_path}/none"]) == 2
    assert "cannot read" in capsys.readouterr().err


def test_two_listeners_at_one_address_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="two listeners are at 127"):
        read(tmp_path, PLAIN.replace("EXTRA", "") + 'listener "tcp" { tls_disable = 1 }')


PLAIN = 'storage "inmem" {}\nlistener "tcp" {\ntls_disable = 1\nEXTRA\n}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PLAIN + 'seal "nope" {}', "is not supported; there are awskms"),
        (PLAIN + 'seal "transit" {}', 'c.hcl:6: seal "transit": needs '),
        (PLAIN + 'seal "static" { key_file = "/none/key" }', "/none/key"),
        (PLAIN + 'audit "nope" "x" {}', "unknown backend type: 'nope'"),
        (PLAIN + 'audit "file" "x" {}', "file_path is required"),
        (
            PLAIN + 'audit "file" "x" { options { file_path = "/none/a"\nmode = "x" } }',
            "mode is octal",
        ),
        (PLAIN.replace("tls_disable = 1", 'tls_cert_file = "/c"\ntls_key_file = "/k"'), "/c"),
        (PLAIN + 'workers = "many"', "c.hcl:6: workers is a whole number"),
        (
            PLAIN.replace("EXTRA", 'max_request_size = "big"'),
            "c.hcl:2: max_request_size is a whole",
        ),
        (PLAIN.replace("EXTRA", "max_request_duration = -1"), "max_request_duration must not be"),
        (PLAIN.replace("EXTRA", 'http_idle_timeout = "x"'), "c.hcl:2: http_idle_timeout must be"),
        (
            'storage "inmem" {}\nlistener "unix" {\naddress = "s"\nsocket_mode = "rw"\n}',
            "c.hcl:2: socket_mode is octal",
        ),
        (
            'storage "inmem" {}\nlistener "unix" {\naddress = "s"\nsocket_mode = "4777"\n}',
            "c.hcl:2: socket_mode is octal",
        ),
        ('storage "inmem" {}\nlistener "unix" {}', "c.hcl:2: listener 'unix' needs an address"),
        (
            f'storage "inmem" {{}}\nlistener "unix" {{\naddress = "/tmp/{"x" * 103}"\n}}',
            "c.hcl:2: the path of a unix socket has at most 107 bytes",
        ),
    ],
)
def test_what_a_start_would_refuse_is_no_valid_configuration(
    tmp_path: Path, capsys, text, said
) -> None:
    (tmp_path / "c.hcl").write_text(text.replace("EXTRA", ""))
    assert main(["server", "-test-config", f"-config={tmp_path}/c.hcl"]) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert "valid" not in told.out


def test_a_test_of_the_configuration_makes_nothing(tmp_path: Path, capsys) -> None:
    (tmp_path / "c.hcl").write_text(
        f'storage "file" {{ path = "{tmp_path}/data" }}\n'
        'listener "tcp" { tls_disable = 1 }\n'
        f'audit "file" "a" {{ options {{ file_path = "{tmp_path}/a.log" }} }}\n'
        'audit "stdout" "b" {}\naudit "file" "c" { options { file_path = "/none/a.log" } }\n'
    )
    assert main(["server", "-test-config", f"-config={tmp_path}/c.hcl"]) == 0
    assert capsys.readouterr().out == "Success! The configuration is valid.\n"
    assert [each.name for each in tmp_path.iterdir()] == ["c.hcl"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('listener "tcp" { tls_disable = 1 }', "exactly one storage"),
        ('storage "inmem" {}', "no listener"),
        ('storage "consul" {} listener "tcp" { tls_disable = 1 }', "'consul' is not supported"),
        ('storage "inmem" {} listener "tcp" {}', "needs tls_cert_file and tls_key_file"),
        (
            'storage "inmem" {} listener "tcp" { tls_cert_file = "c" tls_key_file = "k" '
            "tls_require_and_verify_client_cert = true }",
            "needs tls_client_ca_file",
        ),
        (
            'storage "inmem" {} listener "tcp" { tls_cert_file = "c" tls_key_file = "k" '
            "tls_require_and_verify_client_cert = true tls_disable_client_certs = true }",
            "mutually exclusive",
        ),
        ('storage "file" {} listener "tcp" { tls_disable = 1 }', "needs a path"),
        ('storage "inmem" { ', "line 1, column"),
        ('storage "inmem" {} listener "tcp" { address = "a:b" tls_disable=1}', "not HOST:PORT"),
        (
            'storage "inmem" {} listener "tcp" {tls_disable=1} default_lease_ttl = "long"',
            "default_lease_ttl must be a duration",
        ),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(tmp_path, text)
    assert said in caught.value.message


def test_the_root_key_may_stay_open_for_postgresql_and_rekey(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        'storage "postgresql" { connection_url = "postgres://u@h/d" }\n'
        'listener "tcp" { tls_disable = 1 disable_unauthed_rekey_endpoints = false }',
    )
    assert (found.storage.engine, found.storage.url) == (POSTGRESQL, "postgres://u@h/d")
    assert found.listeners[0].opens == {"rekey"}
    assert "postgres://" not in repr(found)


def test_each_listener_opens_for_itself(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        'storage "inmem" {}\n'
        'listener "tcp" { address = ":1" tls_disable = 1\n'
        "  telemetry { unauthenticated_metrics_access = true }\n"
        "  profiling { unauthenticated_pprof_access = true } }\n"
        'listener "tcp" { address = ":2" tls_disable = 1\n'
        '  profiling { unauthenticated_in_flight_request_access = "true" } }\n'
        'listener "tcp" { address = ":3" tls_disable = 1 }',
    )
    assert [each.opens for each in found.listeners] == [{"metrics"}, {"in-flight"}, set()]
    assert any("'unauthenticated_pprof_access' has no effect" in note for note in found.notes)
    with pytest.raises(Invalid, match="telemetry is a stanza"):
        read(tmp_path, 'storage "inmem" {} listener "tcp" { tls_disable = 1 telemetry = "on" }')


def test_without_a_stanza_audit_goes_beside_the_database(tmp_path: Path) -> None:
    rest = 'listener "tcp" { tls_disable = 1 }'
    found = read(tmp_path, f'storage "file" {{ path = "{tmp_path}" }} {rest}')
    assert [each.options["file_path"] for each in found.audit] == [str(tmp_path / "audit.log")]
    off = read(tmp_path, f'storage "file" {{ path = "{tmp_path}" }} {rest} audit "none" {{}}')
    assert off.audit == ()


async def test_a_static_seal_reads_its_current_and_previous_key(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"o" * 32)
    (tmp_path / "new").write_text((b"n" * 32).hex())
    one = auto_seal(stanza("static", current_key=f"file://{tmp_path}/old"), Means(SystemClock()))
    wrapped = await one.wrapper.wrap(b"root", b"place")
    both = auto_seal(
        stanza("static", current_key=f"file://{tmp_path}/new", previous_key="env://OLD"),
        Means(SystemClock(), {"OLD": (b"o" * 32).hex()}),
    )
    assert await both.wrapper.unwrap(wrapped, b"place") == b"root"
    assert await both.wrapper.identity() != await one.wrapper.identity()
    create_key_file(tmp_path / "ours")
    ours = auto_seal(stanza("static", key_file=str(tmp_path / "ours")), Means(SystemClock()))
    assert await ours.wrapper.unwrap(await ours.wrapper.wrap(b"a", b"b"), b"b") == b"a"


def stanza(kind: str, **fields: object) -> Stanza:
    return Stanza("seal", (kind,), fields, "c.hcl:1")


@pytest.mark.parametrize(
    ("kind", "fields", "said"),
    [
        ("static", {"current_key": "short"}, "current_key is not a key of 32 bytes"),
        ("transit", {"address": "http://x", "key_name": "k"}, "needs token (or VAULT_TOKEN)"),
        ("awskms", {}, "needs kms_key_id (or VAULT_AWSKMS_SEAL_KEY_ID)"),
        ("gcpckms", {"project": "p"}, "needs region (or GOOGLE_REGION)"),
        ("azurekeyvault", {"client_secret": "plain"}, "client_secret must be file://"),
        ("pkcs11", {"pin": "1234"}, "pin must be file://"),
        ("ocikms", {}, "is not supported; there are awskms, azurekeyvault"),
    ],
)
async def test_a_seal_stanza_says_what_it_needs(kind: str, fields: dict, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        auto_seal(stanza(kind, **fields), Means(SystemClock()))
    assert f'c.hcl:1: seal "{kind}": ' in caught.value.message
    assert said in caught.value.message


def test_telemetry_that_would_be_sent_somewhere_is_named(tmp_path: Path) -> None:
    text = """
    storage "inmem" {}
    listener "tcp" { address = "127.0.0.1:8200" tls_disable = true }
    telemetry {
      prometheus_retention_time = "30s"
      disable_hostname = true
      statsd_address = "statsd:8125"
      unauthenticated_metrics_access = true
    }
    """
    (tmp_path / "c.hcl").write_text(text)
    settings = settings_of(read_files([tmp_path / "c.hcl"]))
    said = [note for note in settings.notes if "telemetry field" in note]
    assert len(said) == 2
    assert "'statsd_address' has no effect: metrics are fetched from sys/metrics" in said[0]
    assert "belongs into the telemetry of a listener" in said[1]
    assert not any(each.opens for each in settings.listeners)


LOCKOUT = """
storage "inmem" {}
listener "tcp" { tls_disable = true }
user_lockout "all" { lockout_threshold = 10 lockout_duration = "10m" lockout_counter_reset = "5m" }
user_lockout "AppRole" { disable_lockout = "true" lockout_counter_reset_duration = 7 odd = 1 }
"""


def test_users_are_locked_as_the_stanzas_say_where_a_mount_is_not_tuned(tmp_path: Path) -> None:
    (tmp_path / "s.hcl").write_text(LOCKOUT)
    settings = settings_of(read_files([tmp_path / "s.hcl"]))
    usual = rules_of(_mount("userpass"), settings.user_lockout)
    assert usual == Rules(threshold=10, duration=600.0, reset=300.0)
    off = rules_of(_mount("approle"), settings.user_lockout)
    assert (off.disabled, off.reset, off.threshold) == (True, 7.0, 10)
    tuned = rules_of(_mount("userpass", lockout_threshold=2), settings.user_lockout)
    assert (tuned.threshold, tuned.duration) == (2, 600.0)
    assert any("unsupported user_lockout field 'odd'" in each for each in settings.notes)


def test_the_environment_says_of_every_mount_whether_users_are_locked() -> None:
    stanzas = {"all": {"lockout_threshold": 7, "lockout_disable": True}}
    for said, disabled in (("1", True), ("T", True), ("false", False)):
        settings = forced(stanzas, {"VAULT_DISABLE_USER_LOCKOUT": said})
        for tuned in ({}, {"lockout_disable": not disabled}):
            rules = rules_of(_mount("userpass", **tuned), settings)
            assert (rules.threshold, rules.disabled) == (7, disabled), said
        assert is_off(settings) is disabled
        assert rules_of(_mount("jwt"), settings).disabled
    assert forced(stanzas, {"VAULT_DISABLE_USER_LOCKOUT": ""}) == stanzas
    with pytest.raises(Invalid, match="VAULT_DISABLE_USER_LOCKOUT is true or false"):
        forced({}, {"VAULT_DISABLE_USER_LOCKOUT": "perhaps"})


def _mount(kind: str, **lockout: object) -> MountRow:
    config = {"user_lockout_config": lockout} if lockout else {}
    return MountRow(kind="auth", path=f"{kind}/", uuid="u", type=kind, accessor="a", config=config)


@pytest.mark.parametrize(
    ("stanza", "said"),
    [
        ('user_lockout "cert" {}', "none of all, approle"),
        ("user_lockout { lockout_threshold = 0 }", "must be a positive number"),
    ],
)
def test_a_lockout_that_cannot_be_is_refused_with_its_place(tmp_path, stanza, said) -> None:
    text = f'storage "inmem" {{}} listener "tcp" {{ tls_disable = true }}\n{stanza}\n'
    (tmp_path / "s.hcl").write_text(text)
    with pytest.raises(Invalid, match=rf"s\.hcl:2.*{said}"):
        settings_of(read_files([tmp_path / "s.hcl"]))


BEHIND = """
storage "inmem" {}
listener "tcp" {
  address = "127.0.0.1:8200"
  tls_disable = true
  %s
}
"""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("", None),
        (
            'x_forwarded_for_authorized_addrs = "10.0.0.0/8, ::1"',
            ForwardedFor((ip_network("10.0.0.0/8"), ip_network("::1")), 0, True, True),
        ),
        (
            """x_forwarded_for_authorized_addrs = ["10.0.0.1"]
            x_forwarded_for_hop_skips = 1
            x_forwarded_for_reject_not_present = false
            x_forwarded_for_reject_not_authorized = "false" """,
            ForwardedFor((ip_network("10.0.0.1"),), 1, False, False),
        ),
    ],
)
def test_a_listener_names_its_trusted_proxies(tmp_path: Path, fields, expected) -> None:
    (tmp_path / "c.hcl").write_text(BEHIND % fields)
    settings = settings_of(read_files([tmp_path / "c.hcl"]))
    assert settings.listeners[0].forwarded == expected
    assert not any("x_forwarded" in each for each in settings.notes)


@pytest.mark.parametrize(
    "fields",
    [
        'x_forwarded_for_authorized_addrs = "proxy"',
        'x_forwarded_for_authorized_addrs = "10.0.0.1" \n x_forwarded_for_hop_skips = -1',
        'x_forwarded_for_authorized_addrs = "10.0.0.1" \n x_forwarded_for_hop_skips = "two"',
        "x_forwarded_for_hop_skips = 1",
    ],
)
def test_a_proxy_that_is_no_address_is_refused(tmp_path: Path, fields: str) -> None:
    (tmp_path / "c.hcl").write_text(BEHIND % fields)
    with pytest.raises(Invalid) as caught:
        settings_of(read_files([tmp_path / "c.hcl"]))
    assert caught.value.code == "bad-config"
