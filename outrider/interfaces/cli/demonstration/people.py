"""The people of the demonstration: a CSV file with everything that real files have, and what must become of them.

Owns who is in the file; the same count gives the same file. Addresses are of example.net, which nobody has (RFC 2606).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LEAST: Final = 500
_BAD: Final = ("no-at-sign.example.net", "two@@example.net", "spaces in@example.net", "@example.net", "trailing@")
_SHARE: Final = 1000
CITIES: Final = ("Lisboa", "Kraków", "Zürich", "東京", "Reykjavík", "São Paulo")


@dataclass(frozen=True, slots=True)
class People:
    """How many of each kind are in the file; their sum with the ordinary ones is `rows`."""

    rows: int
    bad: int
    """Rows that are no address."""
    doubled: int
    """Rows that repeat the address above them."""
    unwilling: int
    """People whose row says that they withdrew their consent."""
    suppressed: tuple[str, ...]
    """People on the do-not-contact list."""
    later: int
    """People whose server says: try again later."""
    gone: int
    """People whose mailbox does not exist any more."""

    @property
    def contacts(self) -> int:
        """Different people with an address: all of them get on the list."""
        return self.rows - self.bad - self.doubled

    @property
    def reachable(self) -> int:
        """People whose message must have been accepted in the end."""
        return self.contacts - self.unwilling - len(self.suppressed) - self.gone

    @property
    def ordinary(self) -> int:
        """People of whom nothing is special; only they have a city."""
        return self.contacts - self.unwilling - len(self.suppressed) - self.later - self.gone

    def of_city(self, city: str) -> int:
        """How many live there: the cities take turns."""
        whole, rest = divmod(self.ordinary, len(CITIES))
        return whole + (CITIES.index(city) < rest)


def plan(rows: int) -> People:
    """Who is in a file of so many rows: some thousandths of each kind."""
    share = max(1, rows // _SHARE)
    return People(
        rows=rows,
        bad=share,
        doubled=3 * share,
        unwilling=2 * share,
        suppressed=tuple(f"never{number}@example.net" for number in range(2 * share)),
        later=5 * share,
        gone=2 * share,
    )


def write(path: Path, people: People) -> None:
    """Write the file: kinds are spread evenly among the ordinary people."""
    ordinary = people.ordinary
    special: list[tuple[str, str]] = [
        *((_BAD[number % len(_BAD)], "") for number in range(people.bad)),
        *((f"unwilling{number}@example.net", "withdrawn") for number in range(people.unwilling)),
        *((address, "") for address in people.suppressed),
        *((f"later{number}@example.net", "") for number in range(people.later)),
        *((f"gone{number}@example.net", "") for number in range(people.gone)),
    ]
    every = max(1, ordinary // (len(special) + people.doubled))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("email", "name", "city", "consent"))
        doubled = people.doubled
        for number in range(ordinary):
            row = (f"person{number}@example.net", f"Person {number}", CITIES[number % len(CITIES)], "")
            writer.writerow(row)
            if number % every == 0 and doubled:
                doubled -= 1
                writer.writerow(row)
            elif number % every == 0 and special:
                address, consent = special.pop()
                writer.writerow((address, "Somebody", "", consent))
        for address, consent in special:
            writer.writerow((address, "Somebody", "", consent))
        for _ in range(doubled):
            writer.writerow(row)


def faults() -> dict[str, object]:
    """What the capture mail server does to some of them."""
    return {
        "rules": [
            {"action": "greylist", "name": "greylisting", "recipient": "later*@example.net"},
            {"action": "refuse", "name": "mailbox is gone", "recipient": "gone*@example.net"},
        ]
    }
