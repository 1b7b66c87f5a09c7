"""What docs/cli.md shows is run as it stands against a server process, and the output compared."""

import asyncio
import gzip
import itertools
import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.app.transcript import Shell, environment, fits, steps

from strongroom.app.cluster.control_plane import free_port
from strongroom.app.command_tree import tree
from strongroom.app.dev.processes import TIED_TO_PARENT
from strongroom.app.main import build_parser
from strongroom.app.waiting import until
from strongroom.model.clock import SystemClock

pytestmark = pytest.mark.timeout(600)
PAGE = Path(__file__).resolve().parents[2] / "docs/cli.md"
ADDRESS = "127.0.0.1:8200"
# What a command may say and still be shown as one that failed on purpose.
FAILED = re.compile(r"rror|No value found|^Waiting For", re.M)
Start = Callable[[Path, str, int], None]


@pytest.fixture
def start(background) -> Iterator[Start]:
    """Starts a server from a configuration in a folder, and waits until it answers."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(folder: Path, configuration: str, port: int) -> None:
        (folder / "vault.hcl").write_text(configuration)
        with (folder / "server.log").open("wb") as log:
            running.append(
                subprocess.Popen(
                    [*TIED_TO_PARENT, sys.executable, "-m", "strongroom", "server",
                     "-config=vault.hcl"],
                    cwd=folder, env=environment(folder), stdout=log, stderr=log,
                )
            )  # fmt: skip

        async def answers() -> bool | None:
            from strongroom.wire.client import HttpClient

            async with HttpClient() as http:
                reply = await http.request("GET", f"http://127.0.0.1:{port}/v1/sys/init")
            return True if reply.status == 200 else None

        background(until("the server", answers, SystemClock(), seconds=120))

    yield begin
    for process in running:
        process.terminate()
        process.wait()


@pytest.mark.component
def test_the_first_walk(tmp_path: Path, start: Start) -> None:
    text = PAGE.read_text()
    configuration = re.search(r"^```hcl\n(.*?)^```$", text, re.M | re.S)
    assert configuration
    port = free_port()
    here = f"127.0.0.1:{port}"
    start(tmp_path, configuration[1].replace(ADDRESS, here), port)
    shell = Shell(tmp_path, environment(tmp_path))
    wrong = []
    number = 0
    try:
        for step in steps(text):
            number += 1
            status, printed = shell.run(step.command.replace(ADDRESS, here))
            lines = [each.replace(here, ADDRESS).rstrip() for each in printed]
            failed = status != 0 and not FAILED.search("\n".join(step.shown))
            if failed or not fits([each.rstrip() for each in step.shown], lines):
                wrong.append("\n".join([f"$ {step.command}", f"[{status}]", *lines]))
    finally:
        shell.close()
    assert wrong == [], "\n\n".join(wrong)
    assert number > 50


def test_a_transcript_is_compared_line_by_line() -> None:
    (first, second) = steps("```sh\n$ a <<X\n> b\n> X\nout …\n$ c\n```\n```\n$ not this\n```\n")
    assert first.command == "a <<X\nb\nX"
    assert first.shown == ("out …",)
    assert second.command == "c"
    assert fits(["a …", "…", "z"], ["a 1", "b", "c", "z"])
    assert fits(["…"], [])
    assert not fits(["a …"], ["b 1"])
    assert not fits(["a"], ["a", "more"])
    assert not fits(["a", "b"], ["a"])


# Examples of `operator`, `status` and `audit` in an order in which each finds what it is about,
# the exit status, and what is typed where the command asks. `KEY` is the first holder's share.
OPERATOR = """
2 strongroom operator init -status
0 strongroom operator init -key-shares=5 -key-threshold=3 > keys.txt
2 strongroom status
0 strongroom operator unseal                     # asks for the key
0 strongroom operator unseal -reset
0 strongroom operator unseal - < unseal.key
0 strongroom status -format=json
0 strongroom status -field=sealed
0 strongroom operator rotate
0 strongroom operator key-status
0 strongroom operator key-status -field=term
0 strongroom operator rekey -init -key-shares=3 -key-threshold=2
0 strongroom operator rekey                     # each holder; asks for the key
0 strongroom operator rekey -cancel
0 strongroom operator generate-root -init       # says the one-time password
0 strongroom operator generate-root             # each holder; asks for the key
0 strongroom operator generate-root -cancel
0 strongroom operator members -format=json
0 strongroom operator step-down
0 strongroom audit enable -path=second file file_path=second.log
0 strongroom audit list -detailed
0 strongroom audit hash second 203.0.113.7
0 strongroom audit disable second
0 strongroom operator snapshot save store.snap
0 strongroom operator snapshot inspect store.snap
0 strongroom operator snapshot drill store.snap
0 strongroom operator snapshot restore store.snap
0 strongroom operator snapshot restore -data ./new store.snap     # no server runs
0 strongroom operator raft snapshot save store.snap
0 strongroom operator raft snapshot inspect store.snap
0 strongroom operator raft snapshot drill store.snap
0 strongroom operator raft snapshot restore store.snap
0 strongroom operator raft snapshot restore -data ./new store.snap     # no server runs
0 strongroom operator seal
"""
CONFIGURATION = """
storage "file" { path = "data" }
listener "tcp" { address = "127.0.0.1:PORT" tls_disable = true }
unsafe_allow_api_audit_creation = true
"""


def _examples(*commands: str) -> set[str]:
    """Lines of the leaves' examples, without what is said about them."""
    return {
        line.partition(" #")[0].strip()
        for top in tree()
        if top.words[0] in commands
        for node in top.walk()
        if not node.children and node.words not in (("audit", "timeline"), ("audit", "exposure"))
        for line in (node.parser.epilog or "").splitlines()
        if line.strip().startswith(("strongroom", "source"))
    }


@pytest.mark.component
def test_examples_of_operators_do_what_they_say(tmp_path: Path, start: Start) -> None:
    port = free_port()
    start(tmp_path, CONFIGURATION.replace("PORT", str(port)), port)
    rows = [line.split(" ", 1) for line in OPERATOR.strip().splitlines()]
    shown = {command.partition(" #")[0].strip() for _, command in rows}
    assert shown == _examples("operator", "status", "audit")
    address = f"http://127.0.0.1:{port}"
    home = environment(tmp_path, VAULT_ADDR=address)
    keys: list[str] = []
    for wanted, command in rows:
        if "asks for the key" in command:
            status, said = _typed(command, keys[0], tmp_path, home)
        else:
            times = 3 if "< unseal.key" in command else 1
            for each in range(times):
                if keys:
                    (tmp_path / "unseal.key").write_text(keys[each])
                done = subprocess.run(
                    ["bash", "-c", command], cwd=tmp_path, env=home, capture_output=True,
                    text=True, check=False, stdin=subprocess.DEVNULL,
                )  # fmt: skip
                status, said = done.returncode, done.stdout + done.stderr
        assert status == int(wanted), (command, said)
        if "operator init -key" in command:
            text = (tmp_path / "keys.txt").read_text()
            keys = re.findall(r"^Unseal Key \d: (\S+)$", text, re.M)
            assert len(keys) == 5
            root = re.search(r"^Initial Root Token: (\S+)$", text, re.M)
            assert root
            home["VAULT_TOKEN"] = root[1]


def _typed(command: str, answer: str, folder: Path, home: dict[str, str]) -> tuple[int, str]:
    """Run at a terminal, where the answer is typed once it is asked for."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", "bash", "-c", command],
        cwd=folder, env=home, stdin=side, stdout=side, stderr=side,
    )  # fmt: skip
    os.close(side)
    said = ""
    try:
        while True:
            piece = os.read(main, 4096).decode(errors="replace")
            if not piece:
                break
            said += piece
            if said.endswith("(will be hidden): "):
                os.write(main, answer.encode() + b"\n")
    except OSError:  # Linux says so when the other side is closed.
        pass
    os.close(main)
    assert answer not in said
    return process.wait(), said


@pytest.mark.long
def test_every_example_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of what needs a cluster: the words are those that the command has."""
    monkeypatch.chdir(tmp_path)
    read = 0
    for top in tree():
        for node in top.walk():
            text = (node.parser.epilog or "").replace("\\\n", " ")
            for line in text.splitlines():
                command = re.search(r"strongroom [a-z-].*", line.partition("#")[0])
                if not command or not line.lstrip().startswith(("strongroom", "source")):
                    continue
                lexer = shlex.shlex(command[0], posix=True, punctuation_chars=True)
                lexer.whitespace_split = True
                words = list(itertools.takewhile(lambda word: word not in "|<>);", lexer))
                assert words[0] == "strongroom"
                build_parser(words[1]).parse_args(words[1:])
                read += 1
    assert read > 100


# What needs neither store nor cluster: the exit status, the shell, and the line.
ALONE = """
0 bash strongroom template render greeting.tpl --set user=ada
0 bash strongroom template render externalsecret.yaml --data values.yaml
0 bash strongroom template render externalsecret.yaml --data secret.yaml --key config.json
0 bash strongroom template functions
0 bash strongroom install rbac --namespace strongroom | kubectl apply -f -
0 bash strongroom install rbac --only team-a --only team-b
0 bash strongroom install rbac --token-of prod/vault-auth
0 bash strongroom install crds | kubectl apply --server-side -f -
0 bash source <(strongroom completion bash)
0 zsh source <(strongroom completion zsh)
0 fish strongroom completion fish | source
0 bash strongroom encrypt init --for kubeadm --cluster prod-1
1 bash strongroom encrypt check --config encryption.yaml --format sarif --fail-on warning
0 bash strongroom audit timeline prod/db --offline --secret shop/db --store-log audit.log.1.gz --store-log audit.log --format json
"""
FILES = {
    "greeting.tpl": "hello {{ .user }}\n",
    "externalsecret.yaml": """
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: app}
spec: {target: {template: {data: {config.json: '{"user": "{{ .user }}"}'}}}}
""",
    "values.yaml": "user: ada\n",
    "secret.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {user: YWRh}\n",
    "encryption.yaml": """
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources: [{resources: [secrets], providers: [{identity: {}}]}]
""",
    # Takes what kubectl would: documents, each with a kind.
    "bin/kubectl": f"""#!{sys.executable}
import sys, yaml
kinds = [each["kind"] for each in yaml.safe_load_all(sys.stdin)]
print("applied", len(kinds))
sys.exit(not kinds)
""",
}


@pytest.mark.long
async def test_examples_that_need_no_cluster_do_what_they_say(store, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "bin/kubectl").chmod(0o755)
    await store.ask("POST", "secret/data/prod/db", {"data": {"k": "v"}})
    await store.ask("GET", "secret/data/prod/db")
    lines = [each.rstrip(b"\n") + b"\n" for each in store.device.lines]
    (tmp_path / "audit.log.1.gz").write_bytes(gzip.compress(b"".join(lines[:2])))
    (tmp_path / "audit.log").write_bytes(b"".join(lines[2:]))
    home = environment(tmp_path)
    home["PATH"] = f"{tmp_path / 'bin'}:{home['PATH']}"
    printed = {}
    for row in ALONE.strip().splitlines():
        wanted, shell, command = row.split(" ", 2)
        if shutil.which(shell) is None:
            continue
        quiet = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
        done = await asyncio.to_thread(
            subprocess.run, [shell, *quiet, "-c", command], cwd=tmp_path, env=home,
            capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert (done.returncode, done.stderr if wanted == "0" and shell != "bash" else "") == (
            int(wanted), "",
        ), (command, done.stdout, done.stderr)  # fmt: skip
        printed[command] = done.stdout
    said = list(printed.values())
    assert said[0] == "hello ada\n"
    assert json.loads(said[2]) == {"user": "ada"}
    assert said[4].startswith("applied ")
    assert json.loads(printed[next(each for each in printed if "sarif" in each)])["runs"]
    assert json.loads(said[-1])["entries"]
    shown = {row.split(" ", 2)[2] for row in ALONE.strip().splitlines()}
    assert shown >= _examples("template", "install", "completion") - {""}
