"""`strongroom encrypt`: set up, check, migrate and prove encryption at rest."""

import argparse
from collections.abc import Callable
from typing import Any, Final

STATUSES: Final = """
exit status: 0 good, 1 check found something, 2 refused,
  3 not proved (a value is not under the expected key, or none was found)
"""
# What the help of each verb shows, and the command's all of it.
OF_VERB: Final = {
    "init": """  strongroom encrypt init --for kubeadm --cluster prod-1
""",
    "check": """  strongroom encrypt check --manifest /etc/kubernetes/manifests/kube-apiserver.yaml --live
  strongroom encrypt check --config encryption.yaml --format sarif --fail-on warning
""",  # noqa: E501 - lines of a shell
    "migrate": """  strongroom encrypt migrate --kms-socket /run/strongroom/kms.sock --dry-run
""",
    "prove": """  strongroom encrypt prove --etcd http://127.0.0.1:2379 --kms-socket /run/strongroom/kms.sock
  strongroom encrypt prove --snapshot backup.db --provider strongroom
  strongroom encrypt prove --two-pass           # where etcd is hidden
""",  # noqa: E501 - lines of a shell
}


def register(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its verbs."""
    from strongroom.app.encrypt import check, init, migrate, prove

    parser = _parser(commands, "encrypt", "set up, check, migrate and prove encryption at rest")
    verbs = parser.add_subparsers(dest="encrypt_verb", metavar="VERB", required=True)
    for name, summary, add in _verbs(init, check, migrate, prove):
        add(_parser(verbs, name, summary))


def _verbs(*modules: Any) -> list[tuple[str, str, Callable[[argparse.ArgumentParser], None]]]:  # noqa: ANN401
    summaries = (
        ("init", "write the files of a new installation"),
        ("check", "what a configuration means, and what is wrong"),
        ("migrate", "rewrite everything under the new key, and prove it"),
        ("prove", "read etcd and say how each value is stored"),
    )
    return [
        (name, text, module.add_arguments)
        for (name, text), module in zip(summaries, modules, strict=True)
    ]


def _parser(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:  # noqa: ANN401
    shown = OF_VERB.get(name, "".join(OF_VERB.values()))
    made: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        epilog=f"example:\n{shown}{STATUSES}",
    )
    return made
