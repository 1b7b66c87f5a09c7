"""No command of this part prints a value or a key, on no path: a canary in every input is looked
for in all that is printed."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from strongroom.app.main import main
from strongroom.crypto.signatures import new_key_pair, private_key_text, public_key_text
from strongroom.encrypt.check.configuration import parse
from strongroom.model.errors import Refusal

pytestmark = pytest.mark.long

WORD = b"CANARY-in-a-value"
KEY = b"CANARYCANARYCANARYCANARYCANARY01"
SECRET = base64.b64encode(KEY).decode()
# As it is, and as it looks in base64 from each of the three places it may begin at.
SHOWN = ("CANARY", *(base64.b64encode(b"x" * n + b"CANARYCANARY").decode()[4:12] for n in range(3)))
CONFIG = f"""\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources:
  - secrets
  providers:
  - aescbc:
      keys:
      - name: key1
        secret: {SECRET}
  - secretbox: {{keys: [{{name: k, secret: {SECRET}}}]}}
  - identity: {{}}
"""


def silent(text: str) -> str:
    """The text, which shows no canary."""
    for each in SHOWN:
        assert each not in text
    return text


@pytest.fixture
def said(capfd):
    """A command's exit status, and that what it printed shows nothing."""

    def run(*words: str | Path) -> int:
        capfd.readouterr()
        status = main([str(word) for word in words])
        out, err = capfd.readouterr()
        assert silent(out + err)
        return status

    return run


def mistakes(text: str, first: int) -> Iterator[str]:
    """Slips of a hand: a character too few or another one, a line twice, gone or moved."""
    for place in range(first, len(text)):
        yield text[:place] + text[place + 1 :]
        for other in " \n:{?,'":
            yield text[:place] + other + text[place:]
    lines = text.splitlines()
    for number, line in enumerate(lines):
        head, tail = lines[:number], lines[number + 1 :]
        for instead in ([], [line, line], *([" " * n + line.lstrip()] for n in range(8))):
            yield "\n".join([*head, *instead, *tail])


def test_no_slip_in_a_configuration_shows_a_key() -> None:
    refused = 0
    for text in mistakes(CONFIG, CONFIG.index("  - secretbox")):
        try:
            parse(text.encode())
        except Refusal as refusal:
            refused += 1
            silent(str(refusal))
    assert refused > 500


def test_a_name_that_is_nearly_right_is_told() -> None:
    for wrong, said in (("aescbc", "aesbcc"), ("providers", "provider"), ("secret:", "secrte:")):
        with pytest.raises(Refusal, match=f"nearly '{wrong.strip(':')}'"):
            parse(CONFIG.replace(wrong, said, 1).encode())


class Answers(BaseHTTPRequestHandler):
    """What an etcd and an API server of the worst manners say; the path or a switch chooses."""

    status, body = 200, b"{}"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(type(self).status)
        self.send_header("Content-Length", str(len(type(self).body)))
        self.end_headers()
        self.wfile.write(type(self).body)

    def log_message(self, *args: object) -> None:
        """Nothing beside what is tested."""


PATHS = {
    "/api": {"versions": ["v1"]},
    "/apis": {"groups": []},
    "/api/v1": {
        "groupVersion": "v1",
        "resources": [
            {"name": "secrets", "kind": "Secret", "namespaced": True,
             "verbs": ["list", "patch", "get", "update", "create", "delete", "watch"]}
        ],
    },
    "/api/v1/secrets": {
        "metadata": {"resourceVersion": "9"},
        "items": [{"metadata": {"name": "s", "namespace": "n", "resourceVersion": "1"}}],
    },
}  # fmt: skip


class Api(Answers):
    """Lists one Secret and refuses every patch with its value."""

    def do_GET(self) -> None:
        found = PATHS.get(self.path.partition("?")[0], {"gitVersion": "v1.34.2"})
        body = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PATCH(self) -> None:
        self.do_POST()


def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def etcd() -> Iterator[str]:
    yield from serving(Answers)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Path]:
    """A kubeconfig of the API server; its token is a canary too."""
    for url in serving(Api):
        named = {"name": "a"}
        given = {
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "contexts": [{**named, "context": {"cluster": "a", "user": "a"}}],
            "clusters": [{**named, "cluster": {"server": url}}],
            "users": [{**named, "user": {"token": SECRET}}],
        }  # fmt: skip
        (tmp_path / "kubeconfig").write_text(json.dumps(given))
        yield tmp_path / "kubeconfig"


def page(*values: bytes) -> bytes:
    kvs = [
        {
            "key": base64.b64encode(f"/registry/secrets/n/s{number}".encode()).decode(),
            "value": base64.b64encode(value).decode(),
        }
        for number, value in enumerate(values)
    ]
    return json.dumps({"header": {"revision": "3"}, "kvs": kvs}).encode()


VALUES = [
    b"k8s\x00" + WORD,
    b'{"data": "' + WORD + b'"}',
    b"\xd9\xd9\xf7" + WORD,
    WORD,
    b"k8s:enc:kms:v2:a:" + WORD,
    b"k8s:enc:unknown:" + WORD,
    b"k8s:enc:aescbc:v1:key1:" + WORD,
]


def test_proving_shows_none(etcd: str, said, tmp_path: Path) -> None:
    config = tmp_path / "e.yaml"
    config.write_text(CONFIG)
    Answers.status, Answers.body = 200, page(*VALUES)
    for words in ((), ("--list-all",), ("--format", "json"), ("--covered-by", config)):
        assert said("encrypt", "prove", "--etcd", etcd, *words) == 3
    for form in ("text", "json", "sarif"):
        words = ("--config", config, "--etcd", etcd, "--format", form)
        assert said("encrypt", "check", *words) == 1
    whole = page(*VALUES)
    for status, body in (
        (500, WORD), (403, WORD), (200, WORD), (200, b'{"header": {"revision": "' + WORD + b'"}}'),
        (200, whole[:-40]), (200, b"[]"), (200, b'{"header": {"revision": "1"}, "kvs": ["x"]}'),
    ):  # fmt: skip
        Answers.status, Answers.body = status, body
        assert said("encrypt", "prove", "--etcd", etcd) == 2
        assert said("encrypt", "check", "--config", config, "--etcd", etcd) == 2
    snapshot = tmp_path / "snapshot.db"
    for content in (WORD, WORD * 1000, b"\0" * 16 + b"\xed\x0c\xda\xed" + WORD * 600):
        snapshot.write_bytes(content)
        assert said("encrypt", "prove", "--snapshot", snapshot) == 2


def test_migrating_and_two_passes_show_none(api: Path, said, tmp_path: Path) -> None:
    text = f"Secret s is invalid: data[k]: Invalid value: {WORD.decode()} {SECRET}"
    for status in (403, 422, 400, 200):
        Api.status = status
        Api.body = json.dumps({"kind": "Status", "message": text}).encode()
        if status == 200:
            meta = {"name": "s", "namespace": "n", "resourceVersion": "1"}
            Api.body = json.dumps({"metadata": meta, "data": {"k": SECRET}}).encode()
        said("encrypt", "prove", "--two-pass", "--kubeconfig", api)
        said("encrypt", "prove", "--two-pass", "--format", "json", "--kubeconfig", api)
        words = ("--kubeconfig", api, "--no-barrier", "--key-id", "k")
        assert said("encrypt", "migrate", *words, "--dry-run") == 0
        assert said("encrypt", "migrate", *words) == (0 if status == 200 else 2)
    progress = tmp_path / "progress"
    progress.write_bytes(WORD)
    assert said("encrypt", "migrate", *words, "--resume", progress) == 2


def test_checking_shows_none(said, tmp_path: Path) -> None:
    config, other = tmp_path / "e.yaml", tmp_path / "other"
    config.write_text(CONFIG)
    config.chmod(0o644)
    for form in ("text", "json", "sarif"):
        assert said("encrypt", "check", "--config", config, "--format", form) == 1
    broken = (
        CONFIG.replace("secret: ", ""), CONFIG.replace("name: k,", ""), CONFIG.replace(": [", " ["),
        CONFIG.replace("- name: key1\n        secret", "- secret"), SECRET, WORD.decode(),
        CONFIG.replace("aescbc", f"aescbc: {SECRET}"),
    )  # fmt: skip
    for text in broken:
        config.write_text(text)
        assert said("encrypt", "check", "--config", config) in (1, 2)
        assert said("encrypt", "prove", "--etcd", "http://127.0.0.1:1", "--covered-by", config) == 2
    config.write_text(CONFIG)
    pod = {"containers": [{"command": ["kube-apiserver"], "env": [{"name": "T", "value": SECRET}]}]}
    for content in (json.dumps({"kind": "Pod", "apiVersion": "v1", "spec": pod}), SECRET, "[" * 9):
        other.write_text(content)
        for flag in ("--manifest", "--metrics", "--plugin-config", "--plugin-manifest"):
            said("encrypt", "check", "--config", config, flag, other)


def test_what_init_makes_is_not_shown(capfd, tmp_path: Path) -> None:
    for kind in ("kubeadm", "k3s", "rke2", "plain"):
        folder = tmp_path / kind
        assert main(["encrypt", "init", "--for", kind, "--output", str(folder)]) == 0
        out, err = capfd.readouterr()
        key = (folder / "kms.key").read_text().split()[0]
        assert key
        assert key not in out + err
        assert base64.b64decode(key).hex() not in out + err


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A plugin's files; the key file and escrow's private half hold the canary or stand beside."""
    pair = new_key_pair("rsa-2048")
    (tmp_path / "private.pem").write_text(private_key_text(pair))
    (tmp_path / "public.pem").write_text(public_key_text("rsa-2048", pair))
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text(SECRET)
    backend = {"name": "file", "type": "key_file", "path": str(tmp_path / "key")}
    given = {
        "socket": str(tmp_path / "s"),
        "state": str(tmp_path / "state"),
        "backends": [backend],
        "escrow": [{"name": "safe", "public_key": str(tmp_path / "public.pem")}],
    }
    (tmp_path / "kms.yaml").write_text(json.dumps(given))
    return tmp_path


def test_the_plugins_commands_show_none(node: Path, said) -> None:
    config = ("--config", node / "kms.yaml")
    escrow = ("--escrow-key", node / "private.pem")
    wrong = ("--escrow-key", node / "wrong.pem")
    (node / "wrong.pem").write_bytes(WORD)
    (node / "peer").write_bytes(WORD)
    everything = (
        ("status",), ("prepare",), ("promote", "--alone"), ("promote", "--peer", node / "peer"),
        ("retire", "x", "--unproved"), ("retire", "x", "--proof", node / "peer"), ("rewrap",), ("drill", *escrow), ("drill", *wrong),
        ("recover", *escrow, "--output", node / "new"), ("recover", *wrong, "--output", node / "n"),
    )  # fmt: skip
    first = (node / "kms.yaml").read_text()

    def all_of_them() -> list[int]:
        return [said("kms", verb, *config, *more) for verb, *more in everything]

    assert set(all_of_them()) == {2}  # No state yet.
    assert main(["encrypt", "init", "--output", str(node / "i"), "--for", "plain"]) == 0
    (node / "key").write_text((node / "i/kms.key").read_text())
    (node / "state").write_text((node / "i/kms.json").read_text())
    all_of_them()
    (node / "key").write_text(SECRET)
    all_of_them()
    for content in (WORD.decode(), SECRET + SECRET, "\n".join([SECRET] * 3)):
        (node / "key").write_text(content)
        all_of_them()
    for content in (WORD.decode(), json.dumps({"version": 2, "keys": [SECRET]})):
        (node / "state").write_text(content)
        assert set(all_of_them()) == {2}
    inline = first.replace('"path": ', f'"token {SECRET}": "", "path": ')
    for content in (inline, first[:-9] + SECRET, SECRET, f"{SECRET}: 1", f"? {{a: {SECRET}}}"):
        (node / "kms.yaml").write_text(content)
        assert set(all_of_them()) == {2}
        assert said("kms", "serve", *config) == 2
    (node / "kms.yaml").write_bytes(b"\xff\xfe" + WORD)
    assert set(all_of_them()) == {2}
