"""`strongroom template`: rendered offline, with the place of what is wrong."""

import base64
import json
import re
import shlex
from pathlib import Path

import pytest

from strongroom.app.main import main

MANIFEST = """
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: app}
spec:
  target:
    template:
      type: Opaque
      metadata: {labels: {user: "{{ .user }}"}}
      data:
        dsn: "postgres://{{ .user }}:{{ .password | urlquery }}@db"
        raw: "{{ .raw }}"
      templateFrom:
      - configMap: {name: cm, items: [{key: conf}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: cm}
data: {conf: "a\\n{{ .user | upper }}\\n"}
"""


PAGE = Path(__file__).resolve().parents[2] / "docs/templates.md"


def test_the_commands_of_the_page_render_its_manifest(tmp_path, monkeypatch, capsys) -> None:
    text = PAGE.read_text()
    (manifest,) = re.findall(r"^```yaml\n(.*?)^```$", text, re.M | re.S)
    (commands,) = re.findall(r"^```\n(strongroom template .*?)^```$", text, re.M | re.S)
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    values = {"user": "app", "password": "p@ss", "bundle": pem}
    for name, content in (("externalsecret", manifest), ("values", json.dumps(values))):
        (tmp_path / f"{name}.yaml").write_text(content)
    (tmp_path / "tls.pem").write_text(pem)
    monkeypatch.chdir(tmp_path)
    printed = []
    for line in commands.splitlines():
        assert main(shlex.split(line)[1:]) == 0, line
        printed.append(capsys.readouterr().out)
    rendered, one, functions = printed
    assert one == "postgres://app:p%40ss@db/app"
    assert one in rendered
    assert "filterPEM" in functions


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "es.yaml").write_text(MANIFEST)
    (tmp_path / "values.yaml").write_text("user: ada\npassword: 'p@ s'\nraw: !!binary gP8=\n")
    (tmp_path / "plain.tpl").write_text("{{ .user | upper }}\n  {{ .missing }}\n")
    return tmp_path


def test_a_manifest_is_rendered_with_its_config_maps(files, capsys) -> None:
    """As YAML that a person reads; bytes stay bytes."""
    assert (
        main(["template", "render", str(files / "es.yaml"), "--data", str(files / "values.yaml")])
        == 0
    )
    shown = capsys.readouterr().out
    assert "dsn: postgres://ada:p%40+s@db" in shown
    assert "raw: !!binary" in shown
    assert "conf: |\n    a\n    ADA\n" in shown
    assert "labels:\n  user: ada\n" in shown


def test_json_has_every_value_in_base64(files, capsys) -> None:
    """For programs."""
    arguments = [str(files / "es.yaml"), "--data", str(files / "values.yaml"), "--format", "json"]
    assert main(["template", "render", *arguments]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["object"] == "ExternalSecret app"
    assert base64.b64decode(found["data"]["raw"]) == b"\x80\xff"
    assert found["type"] == "Opaque"


def test_a_secret_manifest_gives_values_and_one_key_is_printed_alone(files, capfdbinary) -> None:
    """Byte for byte, so that it can be piped."""
    secret = {
        "kind": "Secret",
        "data": {"raw": "gP8="},
        "stringData": {"user": "u", "password": "p"},
    }
    (files / "secret.json").write_text(json.dumps(secret))
    arguments = [str(files / "es.yaml"), "--data", str(files / "secret.json"), "--key", "raw"]
    assert main(["template", "render", *arguments]) == 0
    assert capfdbinary.readouterr().out == b"\x80\xff"


def test_what_is_wrong_is_told_with_its_place(files, capsys) -> None:
    """Key of the manifest or name of the file, line and column; never a value."""
    plain = [str(files / "plain.tpl"), "--set", "user=hunter2-hunter2"]
    assert main(["template", "render", *plain]) == 2
    shown = capsys.readouterr().err
    assert 'template plain.tpl, line 2, column 6: map has no entry for key "missing"' in shown
    assert "[template-failed]" in shown
    assert "hunter2" not in shown
    assert main(["template", "render", str(files / "es.yaml"), "--set", "user=x"]) == 2
    assert "template.data[dsn]: line 1, column" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["missing.tpl"], "no-file"),
        (["es.yaml", "--data", "plain.tpl"], "bad-yaml"),
        (["es.yaml", "--set", "novalue"], "bad-values"),
        (["es.yaml", "--data", "values.yaml", "--key", "nope"], "no-key"),
    ],
)
def test_files_and_values_that_are_wrong(files, capsys, monkeypatch, arguments, code) -> None:
    """Refused with a code."""
    monkeypatch.chdir(files)
    assert main(["template", "render", *arguments]) == 2
    assert f"[{code}]" in capsys.readouterr().err


def test_a_file_s_bytes_are_a_value(files, capfdbinary) -> None:
    """--set-file, for keystores and the like."""
    (files / "store.p12").write_bytes(b"\x00\xff")
    (files / "b.tpl").write_text("{{ .v }}")
    path = str(files / "store.p12")
    assert main(["template", "render", str(files / "b.tpl"), "--set-file", f"v={path}"]) == 0
    assert capfdbinary.readouterr().out == b"\x00\xff"


def test_functions_are_listed(capsys) -> None:
    """With their signatures."""
    assert main(["template", "functions", "--format", "json"]) == 0
    found = {each["name"]: each for each in json.loads(capsys.readouterr().out)}
    assert found["trunc"]["signature"] == "(int, string)"
    assert found["list"]["signature"] == "(...any)"
    assert len(found) > 220
