"""The figures of operators beside each other: a table with ratios, and plots."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from operator_steps import Found, percentile
from svg import bars, curves, lines

PERCENTS: Final = (10, 25, 50, 75, 90, 95, 99)
# What a ratio is drawn of: short names, for bars have little room.
DRAWN: Final = {
    "first sync, s": "first sync",
    "API writes per Secret": "API writes",
    "API requests per Secret": "API requests",
    "provider requests per Secret": "provider requests",
    "operator CPU per Secret, ms": "operator CPU",
    "API server CPU per Secret, ms": "API server CPU",
    "new object p95, ms": "new object p95",
    "drift repaired p95, ms": "drift p95",
    "peak memory, MiB": "memory",
}


def table(found: Mapping[str, Found]) -> str:
    """A row for each figure, a column for each operator, and what the others take of the first."""
    names = list(found)
    first = found[names[0]].figures
    titles = list(dict.fromkeys(title for each in found.values() for title in each.figures))
    width = max(map(len, titles))
    head = [f"{'':{width}}", *(f"{each:>18}" for each in names)]
    rows = [" ".join(head + [f"{'x ' + names[0]:>14}" for _ in names[1:]])]
    for title in titles:
        cells = [_cell(found[each].figures.get(title), 18) for each in names]
        for each in names[1:]:
            ratio = ratio_of(first.get(title), found[each].figures.get(title))
            cells.append(_cell(ratio, 14))
        rows.append(" ".join([f"{title:{width}}", *cells]))
    for each in names:
        rows += ["", f"requests of {each} to the API server for each Secret of the first sync:"]
        asked = sorted(found[each].requests.items(), key=lambda row: -row[1])
        rows += [f"  {title:{width}} {count:8.2f}" for title, count in asked]
    return "\n".join(rows)


def _cell(value: float | None, width: int) -> str:
    return f"{'-' if value is None else f'{value:,.2f}':>{width}}"


def ratio_of(ours: float | None, theirs: float | None) -> float | None:
    """How many times ours theirs is; None where there is nothing to divide by."""
    return theirs / ours if ours and theirs is not None else None


def plots(found: Mapping[str, Found], folder: Path) -> None:
    """Write SVG files: progress of the first sync, latencies, and ratios of each other one."""
    folder.mkdir(parents=True, exist_ok=True)
    progress = {name: each.progress for name, each in found.items() if each.progress}
    if progress:
        page = lines("Secrets right after the operator's start", progress, "seconds", "Secrets")
        (folder / "operator-first-sync.svg").write_text(page)
    for title in dict.fromkeys(title for each in found.values() for title in each.samples):
        drawn = {
            name: [(float(at), percentile(sorted(values), at) * 1000) for at in PERCENTS]
            for name, each in found.items()
            if (values := each.samples.get(title))
        }
        page = curves(f"{title.capitalize()}, milliseconds", drawn, "percentile", "ms")
        (folder / f"operator-{title.replace(',', '').replace(' ', '-')}.svg").write_text(page)
    names = list(found)
    for name in names[1:]:
        ratios = {
            short: ratio
            for title, short in DRAWN.items()
            if (ratio := ratio_of(*(found[each].figures.get(title) for each in (names[0], name))))
        }
        if ratios:
            page = bars(f"What {name} takes, as a multiple of {names[0]}", ratios)
            (folder / f"operator-ratio-{name}.svg").write_text(page)
