"""The product with a message in it that ends whoever works on it, as a segfault in a library would [faults.md F16].

    drill.command = poisoned(drill.command)     from then on a worker ends with ENDED as soon as it renders for POISON

Run as a module, `python -m tests.kit.poisoned -m outrider worker …`, it sets that up in this process and goes on as
`outrider`.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Final

from outrider.app import main
from outrider.contracts.channel import Composer, Identity, Item
from outrider.contracts.gate import Lane
from outrider.engine.dispatch.addresses import Addresses
from outrider.engine.dispatch.batch import Claimed
from tests.kit.command import Command

POISON: Final = "poison"
"""What the addresses begin with that end a worker."""
ENDED: Final = 139
"""What a shell says of a process that a segmentation fault has ended."""
_item = Addresses.item


def poisoned(command: Command) -> Command:
    """The same command, which some messages end."""
    return dataclasses.replace(command, python=("-m", "tests.kit.poisoned"))


def _ends_itself(
    self: Addresses, lane: Lane, composer: Composer, claimed: Claimed, identity: Identity, number: str = ""
) -> Item:
    """`Addresses.item` that does not come back from some addresses: no handler and no `finally` runs."""
    if claimed.address.startswith(POISON):
        os._exit(ENDED)
    return _item(self, lane, composer, claimed, identity, number)


if __name__ == "__main__":
    assert sys.argv[1:3] == ["-m", "outrider"]
    Addresses.item = _ends_itself  # type: ignore[method-assign]  # the product has no switch for it
    sys.exit(main(sys.argv[3:]))
