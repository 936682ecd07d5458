"""What every store promises, as tests: subclass the suite, supply `open`, and it runs.

    class TestMyStore(DurableStoreContract):
        @asynccontextmanager
        async def open(self, place, clock, *, short_history=False):
            store = await MyStore.open(place, clock_ms=clock)
            yield store
            await store.close()

`StoreContract` is for stores whose data ends with the process, `DurableStoreContract` for all
others. The suite needs pytest and pytest-asyncio, and it tests the port of `iii_state.core.store`
only. A contract test is never overridden or skipped: a store that cannot pass one is no store.
For readable failures, call `pytest.register_assert_rewrite("iii_state.testing.store_contract")`
before the import, in a `conftest.py`.

To add a promise: a test in the class of its concern, and a planted bug that it catches.
"""

from iii_state.testing.store_contract.entries import ReadContract, UpdateContract, WriteContract
from iii_state.testing.store_contract.feed import FeedContract
from iii_state.testing.store_contract.lifecycle import (
    DurabilityContract,
    ErrorContract,
    LifecycleContract,
    VolatilityContract,
)
from iii_state.testing.store_contract.lists import ListContract, PageContract
from iii_state.testing.store_contract.order import OrderContract
from iii_state.testing.store_contract.rig import Contract, Rig, open_rig
from iii_state.testing.store_contract.transactions import NotesContract, TransactionContract


class EveryStoreContract(
    ReadContract,
    WriteContract,
    UpdateContract,
    ListContract,
    PageContract,
    OrderContract,
    FeedContract,
    LifecycleContract,
    ErrorContract,
    TransactionContract,
    NotesContract,
):
    """What all stores have in common."""


class StoreContract(EveryStoreContract, VolatilityContract):
    """The whole contract of a store that forgets everything with its process, and says so."""


class DurableStoreContract(EveryStoreContract, DurabilityContract):
    """The whole contract of a store whose committed changes survive the process."""


__all__ = [
    "Contract",
    "DurabilityContract",
    "DurableStoreContract",
    "ErrorContract",
    "EveryStoreContract",
    "FeedContract",
    "LifecycleContract",
    "ListContract",
    "NotesContract",
    "OrderContract",
    "PageContract",
    "ReadContract",
    "Rig",
    "StoreContract",
    "TransactionContract",
    "UpdateContract",
    "VolatilityContract",
    "WriteContract",
    "open_rig",
]
