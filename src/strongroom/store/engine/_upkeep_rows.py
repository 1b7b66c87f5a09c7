"""Leaders of background work, use of key terms, and bringing old rows under the newest term."""

import struct
from collections.abc import Sequence
from typing import Any, Final

import orjson

from strongroom.crypto.aead import Tampered
from strongroom.crypto.keyring import term_of
from strongroom.store.engine._feed_rows import restored_at
from strongroom.store.engine._sealed_rows import SealedRows, pack, unpack
from strongroom.store.engine._sealed_tables import TABLES, SealedTable
from strongroom.store.engine.sql import upsert
from strongroom.store.engine.upkeep_contract import LeaderRow, ResealRow, ServerRow

DAMAGED_NAMED: Final = 20
PUT_LEADER: Final = upsert("leader", "task", "node, epoch, expires")
PUT_SERVER: Final = upsert("server", "id", "seen, said")
PUT_RESEAL: Final = upsert("reseal", "id", "term, started, finished, progress")


class UpkeepRows(SealedRows):
    """What keeps the store in order."""

    # leaders

    def leader(self, task: str) -> LeaderRow | None:
        row = self._sql.one("SELECT task, node, epoch, expires FROM leader WHERE task = ?", task)
        return LeaderRow(*row) if row else None

    def lead(
        self, task: str, node: str, now: float, seconds: float, silent: LeaderRow | None = None
    ) -> int | None:
        row = self.leader(task)
        if row is not None and row.node != node and row.expires > now and row != silent:
            return None
        epoch = row.epoch if row and row.node == node else (row.epoch if row else 0) + 1
        self._sql.run(PUT_LEADER, task, node, epoch, now + seconds)
        return epoch

    def leads(self, task: str, node: str, epoch: int) -> bool:
        row = self.leader(task)
        return row is not None and (row.node, row.epoch) == (node, epoch)

    def database_time(self) -> float | None:
        asked = self._sql.dialect.time
        return float(self._sql.one(asked)[0]) if asked else None

    # nodes

    def servers(self) -> Sequence[ServerRow]:
        rows = self._sql.all("SELECT id, seen, said FROM server ORDER BY id")
        return [
            ServerRow(id=name, seen=seen, **unpack(ServerRow, said)) for name, seen, said in rows
        ]

    def put_server(self, row: ServerRow) -> None:
        self._sql.run(PUT_SERVER, row.id, row.seen, pack(row, "id", "seen"))

    def forget_servers(self, before: float) -> None:
        self._sql.run("DELETE FROM server WHERE seen < ?", before)

    # key terms

    def seals_counted(self, term: int) -> int:
        row = self._sql.one("SELECT sealed FROM key_use WHERE term = ?", term)
        return int(row[0]) if row else 0

    def count_seals(self, term: int, number: int) -> None:
        self._sql.run(
            "INSERT INTO key_use (term, sealed) VALUES (?, ?)"
            " ON CONFLICT (term) DO UPDATE SET sealed = key_use.sealed + excluded.sealed",
            term,
            number,
        )

    # resealing

    def reseal(self) -> ResealRow | None:
        row = self._sql.one("SELECT term, started, finished, progress FROM reseal")
        if row is None:
            return None
        term, started, finished, body = row
        rest = unpack(ResealRow, body)
        rest["damaged"] = tuple(rest["damaged"])
        return ResealRow(term=term, started=started, finished=finished, **rest)

    def begin_reseal(self, term: int, now: float) -> None:
        self._move_generation()
        self._note(ResealRow(term, now, table=TABLES[0].name))

    def _note(self, row: ResealRow) -> None:
        body = {
            "table": row.table, "after": row.after, "rows": row.rows,
            "resealed": row.resealed, "damaged": row.damaged, "damaged_rows": row.damaged_rows,
        }  # fmt: skip
        self._sql.run(PUT_RESEAL, 1, row.term, row.started, row.finished, orjson.dumps(body))

    def reseal_page(self, limit: int, now: float) -> bool:
        state = self.reseal()
        if state is None or state.finished is not None:
            return False
        index = next(number for number, each in enumerate(TABLES) if each.name == state.table)
        table = TABLES[index]
        rows = self._next_rows(table, state, limit)
        resealed, damaged = self._reseal_rows(table, state.term, rows)
        keys = len(table.keys)
        ended = len(rows) < limit
        last = ended and index + 1 == len(TABLES)
        self._note(
            ResealRow(
                state.term,
                state.started,
                table=table.name if last or not ended else TABLES[index + 1].name,
                after="" if ended else _dump(rows[-1][:keys]),
                rows=state.rows + len(rows),
                resealed=state.resealed + resealed,
                damaged=(*state.damaged, *damaged)[:DAMAGED_NAMED],
                finished=now if last else None,
                damaged_rows=state.damaged_rows + len(damaged),
            )
        )
        return not last

    def _next_rows(self, table: SealedTable, state: ResealRow, limit: int) -> Sequence[Any]:
        term = struct.pack(">I", state.term)
        onward = bool(state.after)
        after = _load(state.after) if onward else []
        return self._sql.all(table.page(onward=onward), term, *after, limit)

    def _reseal_rows(
        self, table: SealedTable, term: int, rows: Sequence[Any]
    ) -> tuple[int, list[str]]:
        resealed, damaged = 0, []
        for row in rows:
            *keys, version, body = row
            if body is None or (table.name == "event" and restored_at(bytes(body)) is not None):
                continue
            place = table.place(keys)
            try:
                value = self._barrier.open(table.name, place, version, body)
            except Tampered as error:
                damaged.append(error.message)
                continue
            if term_of(body) > term:
                # Sealed after the next rotation; bytes that only say so do not open.
                continue
            again = self._barrier.seal(table.name, place, version, value)
            self._sql.run(table.write(), again, *keys)
            resealed += 1
        return resealed, damaged


def _dump(keys: Sequence[Any]) -> str:
    return orjson.dumps(
        [{"bytes": each.hex()} if isinstance(each, bytes) else each for each in keys]
    ).decode()


def _load(text: str) -> list[Any]:
    return [
        bytes.fromhex(each["bytes"]) if isinstance(each, dict) else each
        for each in orjson.loads(text)
    ]
