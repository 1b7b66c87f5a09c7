"""Completion scripts for bash, zsh and fish, made from the commands there are."""

from strongroom.app.command_tree import Node, tree


def bash() -> str:
    """A bash function over a table of what may follow which words."""
    lines = [
        "# bash completion of strongroom: source <(strongroom completion bash)",
        "declare -A _strongroom_next=(",
        f'  ["strongroom"]="{" ".join(node.words[0] for node in tree())}"',
    ]
    for node in _all():
        follow = [child.words[-1] for child in node.children] + node.flags
        lines.append(f'  ["strongroom {" ".join(node.words)}"]="{" ".join(follow)}"')
    lines += [
        ")",
        "_strongroom() {",
        '  local word path=strongroom current="${COMP_WORDS[COMP_CWORD]}"',
        '  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do',
        "    [[ $word == -* ]] && continue",
        '    local longer="$path $word"',
        '    [[ -v "_strongroom_next[$longer]" ]] && path=$longer || break',
        "  done",
        '  COMPREPLY=($(compgen -W "${_strongroom_next[$path]}" -- "$current"))',
        '  [[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$current"))',
        "}",
        "complete -F _strongroom strongroom",
    ]
    return "\n".join(lines) + "\n"


def zsh() -> str:
    """The same by zsh's own reader of bash completions."""
    head = (
        "#compdef strongroom\n# zsh completion of strongroom: source <(strongroom completion zsh)\n"
    )
    return head + "autoload -U +X bashcompinit && bashcompinit\n" + bash()


def fish() -> str:
    """One line for each word and flag."""
    lines = ["# fish completion of strongroom: strongroom completion fish | source"]
    lines.append("complete -c strongroom -f -n '__fish_use_subcommand'")
    for node in tree():
        lines.append(
            f"complete -c strongroom -f -n '__fish_use_subcommand' -a {node.words[0]}"
            f" -d {_quoted(node.summary)}"
        )
    for node in _all():
        seen = " ".join(f"; and __fish_seen_subcommand_from {word}" for word in node.words)
        condition = seen.removeprefix("; and ")
        for child in node.children:
            lines.append(
                f"complete -c strongroom -f -n '{condition}' -a {child.words[-1]}"
                f" -d {_quoted(child.summary)}"
            )
        for flag in node.flags:
            kind, name = ("-l", flag[2:]) if flag.startswith("--") else ("-o", flag[1:])
            lines.append(f"complete -c strongroom -n '{condition}' {kind} {name}")
    return "\n".join(lines) + "\n"


def _all() -> list[Node]:
    return [each for node in tree() for each in node.walk()]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
