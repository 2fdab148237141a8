"""Which quote each Stripe object belongs to (RULES S1): through its own claim, or through the ids that objects hold of
each other, whichever of them came first.

The objects and their ties are a graph. Where all claims of a connected part name one quote, the whole part is that
quote's. Where they name several (a merchant's mistake), each object goes to the nearest claim; of two equally near, to
the lesser quote id. Either is a function of the graph alone, not of the order in which it grew.
"""

from collections.abc import Callable, Iterable, Mapping

from quittance.domain.tracked import Tracked

Neighbours = dict[str, set[str]]
IsOurs = Callable[[Tracked], bool]


def neighbours_of(objects: Iterable[Tracked]) -> Neighbours:
    """Who is tied to whom, in both directions; an id that is only named is there as well."""
    neighbours: Neighbours = {}
    for tracked in objects:
        connect(neighbours, tracked)
    return neighbours


def connect(neighbours: Neighbours, tracked: Tracked) -> None:
    """Add an object's ties to the graph."""
    mine = neighbours.setdefault(tracked.id, set())
    for _, other in tracked.ties:
        mine.add(other)
        neighbours.setdefault(other, set()).add(tracked.id)


def component(neighbours: Neighbours, start: Iterable[str]) -> set[str]:
    """All ids that can be reached from `start`, which is part of it."""
    reached = set(start)
    frontier = list(reached)
    while frontier:
        for other in neighbours.get(frontier.pop(), ()):
            if other not in reached:
                reached.add(other)
                frontier.append(other)
    return reached


def attribute(
    ids: Iterable[str], objects: Mapping[str, Tracked], neighbours: Neighbours, is_ours: IsOurs
) -> dict[str, str]:
    """The quote id of each of `ids`, a whole component or several; an id that no claim of ours reaches is left out."""
    owner = {
        object_id: tracked.claim.quote_id
        for object_id in ids
        if (tracked := objects.get(object_id)) is not None and tracked.claim is not None and is_ours(tracked)
    }
    if len(set(owner.values())) == 1:
        quote_id = next(iter(owner.values()))
        return dict.fromkeys(component(neighbours, owner), quote_id)
    frontier = dict(owner)
    while frontier:
        reached: dict[str, str] = {}
        for object_id, quote_id in frontier.items():
            for other in neighbours.get(object_id, ()):
                if other not in owner:
                    reached[other] = min(quote_id, reached.get(other, quote_id))
        owner.update(reached)
        frontier = reached
    return owner
