"""The walk-throughs of docs/store-auth.md are run as they stand there, against a server process."""

import asyncio
import fnmatch
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.openid_issuer import Issuer

from strongroom.app.cluster.control_plane import ControlPlane, free_port
from strongroom.app.dev.processes import Processes
from strongroom.app.waiting import until
from strongroom.model.clock import SystemClock
from strongroom.wire.client import HttpClient

pytestmark = [pytest.mark.component, pytest.mark.long, pytest.mark.timeout(600)]
CLOCK = SystemClock()
PAGE = Path(__file__).resolve().parents[2] / "docs" / "store-auth.md"
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIRST = "A secret and a policy"
MARK = "-- end of a block --"


@dataclass(frozen=True)
class Step:
    """Commands, and the end of what they print as the page shows it ("" for nothing)."""

    commands: str
    shown: str


def walk_throughs() -> dict[str, list[Step]]:
    """Steps by heading."""
    found: dict[str, list[Step]] = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        steps: list[Step] = []
        for kind, text in BLOCK.findall(section):
            if kind == "sh":
                steps.append(Step(text, ""))
            else:
                steps[-1] = Step(steps[-1].commands, text.strip())
        if steps:
            found[section.partition("\n")[0]] = steps
    return found


PAGES = walk_throughs()


def test_every_method_has_a_walk_through() -> None:
    assert {FIRST, "User names and passwords", "AppRole", "Kubernetes", "JSON Web Tokens"} <= {
        *PAGES
    }
    assert {"OpenID Connect", "TLS certificates", "Entities and groups", "Tokens"} <= {*PAGES}


@dataclass
class Shell:
    """A home with a server and the program in its path."""

    folder: Path
    env: dict[str, str]

    async def run(self, steps: list[Step]) -> None:
        """Run the steps in one shell, and hold what it prints against what the page shows."""
        script = f"\necho; echo '{MARK}'\n".join(each.commands for each in steps)
        process = await asyncio.create_subprocess_exec(
            "bash", "-eu", "-c", script, cwd=self.folder, env=self.env,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        printed = out.decode().split(MARK)
        assert process.returncode == 0, (printed[-1], err.decode())
        assert len(printed) == len(steps)
        for step, said in zip(steps, printed, strict=True):
            if step.shown:
                pattern = re.sub(r"([\[?])", r"[\1]", step.shown).replace("...", "*")
                assert fnmatch.fnmatchcase(said.strip(), "*" + pattern), (step.commands, said)


@pytest.fixture
async def shell(tmp_path: Path) -> AsyncIterator[Shell]:
    port, programs = free_port(), tmp_path / "bin"
    programs.mkdir()
    (programs / "strongroom").symlink_to(Path(sys.executable).parent / "strongroom")
    clean = {name: each for name, each in os.environ.items() if not name.startswith("VAULT_")}
    address = f"https://127.0.0.1:{port}"
    env = {
        **clean, "HOME": str(tmp_path), "TMPDIR": str(tmp_path), "PATH": f"{programs}:{clean['PATH']}",
        "VAULT_ADDR": address, "VAULT_TOKEN": "root", "VAULT_SKIP_VERIFY": "true",
        "OCSP_PORT": str(free_port()),
    }  # fmt: skip
    words = (
        "server", "-dev-tls", "-dev-root-token-id=root", "-dev-no-store-token",
        f"-dev-listen-address=127.0.0.1:{port}",
    )  # fmt: skip
    with Processes(tmp_path / "logs") as processes:
        processes.start("server", [str(programs / "strongroom"), *words], env)

        async def serves() -> bool | None:
            processes.check("server")
            async with HttpClient(verify=False) as http:
                reply = await http.request("GET", f"{address}/v1/sys/health")
            return True if reply.status == 200 else None

        await until("the server", serves, CLOCK, seconds=120)
        shell = Shell(tmp_path, env)
        await shell.run(PAGES[FIRST])
        yield shell


@pytest.mark.parametrize(
    "heading",
    [
        "User names and passwords",
        "AppRole",
        "TLS certificates",
        "Tokens",
        "Entities and groups",
        "Identity tokens",
    ],
)
async def test_a_walk_through_does_what_it_shows(shell: Shell, heading: str) -> None:
    await shell.run(PAGES[heading])


async def test_the_walk_through_of_tokens_of_an_issuer(shell: Shell) -> None:
    async with Issuer(CLOCK.now).listening() as issuer:
        shell.env["ISSUER"] = issuer.url
        shell.env["JWT"] = issuer.sign(aud="strongroom", project={"path": "shop/site"})
        await shell.run(PAGES["JSON Web Tokens"])


async def test_the_walk_through_of_a_browser(shell: Shell) -> None:
    """The browser is curl, which follows the issuer's redirect back to the command."""
    async with Issuer(CLOCK.now).listening() as issuer:
        issuer.claims = {"groups": ["ops"]}
        shell.env |= {
            "ISSUER": issuer.url, "CLIENT_ID": issuer.client, "CLIENT_SECRET": issuer.secret,
            "PORT": str(free_port()), "BROWSER": "curl -sL -o /dev/null %s &",
        }  # fmt: skip
        await shell.run(PAGES["OpenID Connect"])


@pytest.mark.cluster
async def test_the_walk_through_of_a_cluster(shell: Shell, cluster: ControlPlane) -> None:
    kubectl = cluster.binaries.path("kubectl")
    (shell.folder / "bin" / "kubectl").symlink_to(kubectl)
    shell.env["KUBECONFIG"] = str(cluster.kubeconfig)
    try:
        await shell.run(PAGES["Kubernetes"])
    finally:
        for words in (
            ("namespace", "shop"), ("serviceaccount", "reviewer", "--namespace", "kube-system"),
            ("clusterrolebinding", "strongroom-reviewer"),
            ("clusterrolebinding", "strongroom-namespaces"),
            ("clusterrole", "strongroom-namespaces"),
        ):  # fmt: skip
            cluster.kubectl("delete", *words, "--wait=false", check=False)
