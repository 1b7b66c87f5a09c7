"""`strongroom completion`: a script that completes commands and flags in a shell."""

import argparse
from typing import Any, Final

EXAMPLE: Final = """example:
  source <(strongroom completion bash)       # in ~/.bashrc
  source <(strongroom completion zsh)        # in ~/.zshrc
  strongroom completion fish | source        # in ~/.config/fish/config.fish
  complete -C vault vault                    # bash, for a link of that name
  # Where VAULT_ADDR is set and there is a token, names of paths, mounts and policies are offered
  # as well: the store is asked, for a second at most, and its audit log has each question.

exit status: 0 done, 2 refused
"""


def register(commands: Any) -> None:  # noqa: ANN401
    """Add the command."""
    parser = commands.add_parser(
        "completion",
        help="print a script that completes commands in a shell",
        epilog=EXAMPLE,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    from strongroom.app.completion import SHELLS

    print(SHELLS[args.shell](), end="")
    return 0
