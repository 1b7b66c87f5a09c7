"""The table of functions in docs/templates.md, written from the functions themselves."""

from typing import Final

from strongroom.template.functions import TABLES

BEGIN: Final = "<!-- functions: written by strongroom.template.reference -->"
END: Final = "<!-- end of functions -->"


def functions_table() -> str:
    """Every function by group as Markdown; a function another table replaces stands there alone."""
    shown: list[str] = []
    last = {function.name: table for table in TABLES for function in table}
    for table in TABLES:
        shown += [f"### {table.group}", "", "| Function | Arguments | |", "|---|---|---|"]
        shown += [
            f"| `{each.name}` | `{each.signature}` | {each.help.replace('|', chr(92) + '|')} |"
            for each in sorted(table, key=lambda function: function.name)
            if last[each.name] is table
        ]
        shown.append("")
    return "\n".join(shown)


def with_table(page: str) -> str:
    """The page with the table between its marks put in anew."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{functions_table()}\n{END}{after}"


if __name__ == "__main__":
    from pathlib import Path

    _page = Path("docs/templates.md")
    _page.write_text(with_table(_page.read_text()))
