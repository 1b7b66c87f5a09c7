"""Every kind of row together: the view and the transaction of the engines on a database.

A new kind of row is a class beside these, added here, to the contract, to the fake in `memory`,
to the steps of `schema`, and to the conformance suite.
"""

from strongroom.store.engine._auth_rows import AuthRows
from strongroom.store.engine._control_rows import ControlRows
from strongroom.store.engine._feed_rows import FeedRows
from strongroom.store.engine._identity_rows import IdentityRows
from strongroom.store.engine._kv_rows import KvRows
from strongroom.store.engine._lease_rows import LeaseRows
from strongroom.store.engine._snapshot_rows import SnapshotRows
from strongroom.store.engine._token_rows import TokenRows
from strongroom.store.engine._upkeep_rows import UpkeepRows


class StoreRows(
    ControlRows,
    TokenRows,
    LeaseRows,
    FeedRows,
    IdentityRows,
    AuthRows,
    UpkeepRows,
    SnapshotRows,
    KvRows,
):
    """The contract's Transaction on one connection."""
