"""Counts of what was logged for a run, and the digests that prove them."""

from typing import Any, NamedTuple

from runstream.digest import MASK


class Tally(NamedTuple):
    """Elements and events, with the digests of their identities."""

    elements: int = 0  # without declarations
    digest: int = 0  # declarations too
    events: int = 0
    events_digest: int = 0

    def plus(self, more: "Tally") -> "Tally":
        """The sum."""
        return Tally(
            self.elements + more.elements,
            (self.digest + more.digest) & MASK,
            self.events + more.events,
            (self.events_digest + more.events_digest) & MASK,
        )


Tallies = dict[int, Tally]  # by run index

NOTHING = Tally()


def gather(tallies: Tallies, more: Tallies) -> None:
    """Add to the tallies."""
    for index, tally in more.items():
        tallies[index] = tallies.get(index, NOTHING).plus(tally)


def dump(logged: Tally, rejected: Tally) -> list[int]:
    """What `state.json` keeps beside the counts of elements."""
    return [*logged[1:], *rejected[1:]]


def load(logged: int, rejected: int, row: list[Any] | None) -> tuple[Tally, Tally]:
    """The reverse. Raises ValueError or TypeError for what is no such row."""
    if row is None:
        return Tally(logged), Tally(rejected)
    numbers = [int(number) for number in row]
    if len(numbers) != 6:
        raise ValueError("digests of a run are six numbers")
    return Tally(logged, *numbers[:3]), Tally(rejected, *numbers[3:])
