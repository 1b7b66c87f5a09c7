"""Completion scripts for bash, zsh and fish, made from the commands there are.

Flags are offered as they are begun: with one dash after one, with two after two. Where VAULT_ADDR
is set, paths, mounts and policies are offered as well, which the program asks the store for.
"""

from collections.abc import Iterator
from typing import Final

from strongroom.app.command_tree import Node, tree
from strongroom.app.completion_values import ASKING, COMPLETED, FLAGS, ONE_WORD

_BASH: Final = """)
_strongroom() {
  local word at=strongroom current="${COMP_WORDS[COMP_CWORD]}" offered
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word == -* ]] && continue
    local longer="$at $word"
    [[ -v "_strongroom_next[$longer]" ]] && at=$longer || break
  done
  offered=${_strongroom_next[$at]}
  [[ $current == --* ]] && offered=$(for word in $offered; do
    [[ $word == -[!-]?* ]] && echo "-$word" || echo "$word"
  done)
  COMPREPLY=()
  if [[ -n $VAULT_ADDR && $offered != [a-z]* && ( $current != -* || $current == *=* ) ]]; then
    local index typed=("${COMP_WORDS[@]:1:COMP_CWORD}")
    mapfile -t COMPREPLY < <("${COMP_WORDS[0]}" __complete "${typed[@]}" 2>/dev/null)
    [[ "${COMPREPLY[*]}" == */ ]] && compopt -o nospace 2>/dev/null
    # A name is what somebody wrote; as it is inserted, it must not be a command.
    for index in "${!COMPREPLY[@]}"; do
      printf -v "COMPREPLY[$index]" %q "${COMPREPLY[$index]}"
    done
  fi
  [[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -W "$offered" -- "$current"))
  [[ ${#COMPREPLY[@]} -gt 0 ]] || COMPREPLY=($(compgen -f -- "$current"))
}
complete -F _strongroom strongroom
"""
_ZSH: Final = """)
_strongroom() {
  local at=strongroom word
  for word in ${words[2,CURRENT-1]}; do
    [[ $word == -* ]] && continue
    (( ${+_strongroom_next[$at $word]} )) || break
    at="$at $word"
  done
  local -a offered verbs flags
  offered=("${(@f)_strongroom_next[$at]}")
  verbs=(${offered:#-*})
  flags=(${(M)offered:#-*})
  if [[ $PREFIX == --* ]]; then
    flags=(${flags/#(#b)-([^-:][^:])/--$match[1]})
  fi
  local -a values folders
  if [[ -n $VAULT_ADDR && ( $PREFIX != -* || $PREFIX == *=* ) ]] && (( ! $#verbs )); then
    values=("${(@f)$($words[1] __complete "${(@)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
    folders=(${(M)values:#*/})
    values=(${values:#*/})
  fi
  if (( $#values + $#folders )); then
    (( $#values )) && compadd -- $values
    (( $#folders )) && compadd -S '' -- $folders
  elif [[ $PREFIX == -* ]]; then
    _describe -o flag flags
  elif (( $#verbs )); then
    _describe command verbs
  else
    _files
  fi
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
[[ $funcstack[1] == _strongroom ]] && _strongroom "$@" || compdef _strongroom strongroom
"""
_FISH: Final = """function __strongroom_at
  set -l at
  for word in (commandline -opc)[2..-1]
    string match -q -- '-*' $word; and continue
    contains -- "$at $word" $__strongroom_paths; or break
    set at "$at $word"
  end
  test "$at" = "$argv"
end
function __strongroom_values
  set -q VAULT_ADDR; or return
  set -l typed (commandline -opc)
  $typed[1] __complete $typed[2..-1] (commandline -ct) 2>/dev/null
end
"""


# An argument of a flag, which fish takes without the flag before it.
FISH_VALUE: Final = '-x -a \'(__strongroom_values | string replace -r "^-[^=]*=" "")\' '


def bash() -> str:
    """A bash function over a table of what may follow which words."""
    lines = [
        "# bash completion of strongroom: source <(strongroom completion bash)",
        "declare -A _strongroom_next=(",
        f'  ["strongroom"]="{" ".join(node.words[0] for node in tree())}"',
    ]
    for node in _all():
        follow = [child.words[-1] for child in node.children] + [flag for flag, _ in _flags(node)]
        lines.append(f'  ["strongroom {" ".join(node.words)}"]="{" ".join(follow)}"')
    return "\n".join(lines) + "\n" + _BASH


def zsh() -> str:
    """The same with what each word and flag is for."""
    lines = [
        "#compdef strongroom",
        "# zsh completion of strongroom: source <(strongroom completion zsh)",
        "typeset -gA _strongroom_next=(",
        f"  strongroom {_described((node.words[0], node.summary) for node in tree())}",
    ]
    for node in _all():
        follow = [(child.words[-1], child.summary) for child in node.children]
        follow += _flags(node)
        lines.append(f"  'strongroom {' '.join(node.words)}' {_described(follow)}")
    return "\n".join(lines) + "\n" + _ZSH


def _described(offered: "Iterator[tuple[str, str]] | list[tuple[str, str]]") -> str:
    """Lines of WORD:TEXT in one quoted word."""
    text = "\n".join(f"{word}:{text}" for word, text in offered)
    return "'" + text.replace("'", "'\\''") + "'"


def fish() -> str:
    """One line for each word and flag."""
    paths = " ".join(_quoted(" " + " ".join(node.words)) for node in _all())
    lines = [
        "# fish completion of strongroom: strongroom completion fish | source",
        f"set -g __strongroom_paths {paths}",
        _FISH + "complete -c strongroom -f -n '__strongroom_at'",
    ]
    for node in tree():
        lines.append(
            f"complete -c strongroom -f -n '__strongroom_at' -a {node.words[0]}"
            f" -d {_quoted(node.summary)}"
        )
    for node in _all():
        at = f"-n '__strongroom_at \" {' '.join(node.words)}\"'"
        for child in node.children:
            lines.append(
                f"complete -c strongroom -f {at} -a {child.words[-1]} -d {_quoted(child.summary)}"
            )
        if " ".join(node.words) in COMPLETED:
            bare = "" if " ".join(node.words) in ONE_WORD else "-f "
            lines.append(f"complete -c strongroom {bare}{at} -a '(__strongroom_values)'")
        for flag, text in _flags(node):
            if flag.startswith("--"):
                names = f"-l {flag[2:]}"
            else:
                names = f"-o {flag[1:]} -l {flag[1:]}" if len(flag) > 2 else f"-s {flag[1:]}"
            asks = (
                FISH_VALUE
                if " ".join(node.words) in ASKING and f"-{flag.lstrip('-')}" in FLAGS
                else ""
            )
            lines.append(f"complete -c strongroom {at} {names} {asks}-d {_quoted(text)}")
    return "\n".join(lines) + "\n"


def _flags(node: Node) -> list[tuple[str, str]]:
    """Each flag once, with one dash where it may have one, and what it is for."""
    return [(names[0], text) for names, text in node.flags]


def _all() -> list[Node]:
    return [each for node in tree() for each in node.walk()]


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
