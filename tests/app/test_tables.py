"""Tables as they are read: at a terminal of 80 or 120 columns, and in a pipe."""

import argparse
import io
import re

import pytest
from rich.console import Console

from strongroom.app.commands.audit import timeline_sheet
from strongroom.app.encrypt.prove import print_table
from strongroom.app.tables import Sheet, say, show
from strongroom.audit.timeline import Actor, Entry
from strongroom.encrypt.coverage import Coverage, Expected
from strongroom.encrypt.prove import prove
from strongroom.model.reference import SecretRef

REF = SecretRef("secret", "prod/db")
ACCOUNT = "a-team-with-a-long-name/an-application-with-a-long-name"
POD = "an-application-with-a-long-name-7d9c8b6f5-x2x4q"


def entries(count: int, *, cluster: bool) -> list[Entry]:
    """Touches of many readers, each in its own second."""
    return [
        Entry(
            1.8e9 + at,
            "store",
            Actor("root", ACCOUNT, POD, "", "node-1") if cluster else Actor("root"),
            "read (metadata)",
            "",
            "refused (403)",
            version=at + 1,  # equal ones would be one line
            keys=("password", "username"),
            joined_by="token id" if cluster else "",
        )
        for at in range(count)
    ]


def shown(sheet: Sheet, width: int, *, terminal: bool = True) -> list[str]:
    """The lines a person reads."""
    file = io.StringIO()
    show(sheet, Console(file=file, width=width, force_terminal=terminal, color_system=None))
    return [re.sub(r"\x1b\[[0-9;]*m", "", each) for each in file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("cluster", [False, True])
def test_no_line_is_wider_than_the_terminal_and_no_time_is_folded(width, cluster) -> None:
    lines = shown(timeline_sheet(REF, entries(3, cluster=cluster)), width)
    assert max(map(len, lines)) <= max(width, len(ACCOUNT) + 4)
    text = "\n".join(lines)
    assert len(re.findall(r"2027-01-15 08:00:0\d\.000", text)) == 3


def test_a_narrow_terminal_gets_one_entry_below_the_other() -> None:
    lines = shown(timeline_sheet(REF, entries(2, cluster=True)), 100)
    assert lines[0] == "secret/prod/db: 2 touches"
    assert lines[1] == f"2027-01-15 08:00:00.000  {ACCOUNT}  read (metadata)"
    assert lines[2] == "    refused (403)"
    assert lines[3].startswith(f"    pod: {POD}; node: node-1;")
    assert "version: 1" in "".join(lines[3:5])


def test_a_column_that_says_nothing_is_left_out() -> None:
    heading = "".join(shown(timeline_sheet(REF, entries(1, cluster=False)), 200)[:4])
    assert "keys" in heading
    assert "1 touch" in heading
    for name in ("pod", "node", "joined by"):
        assert name not in heading


def test_a_pipe_gets_every_entry_on_one_line_unless_columns_says_how_wide(monkeypatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    sheet = timeline_sheet(REF, entries(1000, cluster=True))
    rows = [each for each in shown(sheet, 80, terminal=False) if "2027" in each]
    assert len(rows) == 1000
    assert all(POD in each and ACCOUNT in each for each in rows)
    monkeypatch.setenv("COLUMNS", "80")
    assert max(map(len, shown(sheet, 80, terminal=False))) <= 80


def test_a_proof_of_a_large_cluster_is_a_page_and_its_counts(capsys) -> None:
    pairs = [
        (f"/registry/secrets/n/s{at:04}", b'k8s\0\n\x0c\n\x02v1 "plain"') for at in range(1000)
    ]
    page = argparse.Namespace(list_all=False, snapshot=None)
    print_table(prove(pairs, Coverage(given=Expected("strongroom", "k"))), None, page)
    lines = capsys.readouterr().out.splitlines()
    assert len([each for each in lines if "plaintext │" in each]) == 50
    assert "and 950 more that are not ok" in lines
    assert "NOT PROVED: 1,000 plaintext, by reading etcd" in lines


def test_a_name_in_a_log_moves_no_cursor(capsys) -> None:
    names = ("pa\x1b[2Jss", "x\r\x9b1A", "a\u202eb", "größe", "a\u200bb", "a\nb")
    sheet = Sheet("t\x1b[1A", ("name", "other"), [(each, "y") for each in names], lead=("name",))
    for width in (200, 20):
        out = io.StringIO()
        show(sheet, Console(file=out, width=width, markup=False, highlight=False))
        shown = out.getvalue()
        assert all(each.isprintable() for each in shown.replace("\n", ""))
    say("said\x1b[2J")
    shown += capsys.readouterr().out
    for each in (
        "pa\\x1b[2Jss",
        "x\\r\\x9b1A",
        "a\\u202eb",
        "größe",
        "a\\nb",
        "t\\x1b[1A",
        "said\\x1b[2J",
    ):
        assert each in shown
