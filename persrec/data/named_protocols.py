"""Protocols that others publish under, by name: which events they train and rank on, and whether their rows know the request's time.

Each is leave-one-out with seen items left out of the ranking.

- ``rectools``: all items; RecTools' HSTU reads the request's time (RecTools 0.19). On MovieLens-1M 3,706 items.
- ``5-core``: items and users of five events or more, over and over until all have them; the repositories that list it read no time
  (antklen's SASRec, gSASRec). On MovieLens-1M 3,416 items.

`log_under` gives the log that a model is trained on under one of them; `persrec.evaluation.protocols` ranks a model of all events as
if under each.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persrec import names
from persrec.data.interactions import InteractionLog


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedProtocol:
    """What a protocol asks for.

    Attributes:
        name: of `persrec.names.PROTOCOLS`.
        core: events that an item and a user need at least; 1 keeps all.
    """

    name: str
    core: int

    @property
    def request_time(self) -> bool:
        """Whether its rows of models that read times know that of the request; where not, its rows read no times."""
        return names.PROTOCOLS[self.name]


PUBLISHED_PROTOCOLS = (
    PublishedProtocol(name="rectools", core=1),
    PublishedProtocol(name="5-core", core=5),
)


def core(offsets: NDArray[np.int64], items: NDArray[Any], *, num_items: int, least: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which items ``[V]`` and users ``[U]`` have ``least`` events or more among those of each other; padding is no item.

    Args:
        offsets: ``[U + 1]``: user ``u`` owns ``items[offsets[u]:offsets[u + 1]]``.
        items: ``[n]``.
        num_items: ``V``.
        least: 1 keeps all.
    """
    items = np.asarray(items)
    users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    kept_items, kept_users = np.ones(num_items, dtype=bool), np.ones(len(offsets) - 1, dtype=bool)
    kept_items[0] = False
    while least > 1:
        is_kept = kept_items[items] & kept_users[users]
        frequent_items = np.bincount(items[is_kept], minlength=num_items) >= least
        frequent_users = np.bincount(users[is_kept], minlength=len(kept_users)) >= least
        if np.array_equal(frequent_items & kept_items, kept_items) and np.array_equal(frequent_users & kept_users, kept_users):
            break
        kept_items, kept_users = kept_items & frequent_items, kept_users & frequent_users
    return kept_items, kept_users


def log_under(log: InteractionLog, protocol: str) -> InteractionLog:
    """The log under a protocol: only its items and users, numbered anew in their old order; the digest stays the source's.

    Args:
        log: all events.
        protocol: of `persrec.names.PROTOCOLS`; `persrec.names.OWN_PROTOCOL` gives the log itself.

    Raises:
        ValueError: no such protocol; seen items stay in the ranking of these data; none of their events is left.
    """
    if protocol == names.OWN_PROTOCOL:
        return log
    published = next((candidate for candidate in PUBLISHED_PROTOCOLS if candidate.name == protocol), None)
    if published is None:
        raise ValueError(f"protocol: unknown {protocol!r}{names.nearest(protocol, names.PROTOCOLS)}; known: {', '.join(names.PROTOCOLS)}")
    if not log.exclude_seen:
        raise ValueError(f"protocol: {protocol!r} on dataset {log.name}, whose seen items stay in the ranking; it leaves them out")
    if published.core <= 1:
        return log
    return _sub_log(log, *core(log.offsets, log.items, num_items=log.num_items, least=published.core), protocol=protocol)


def _sub_log(log: InteractionLog, kept_items: NDArray[np.bool_], kept_users: NDArray[np.bool_], *, protocol: str) -> InteractionLog:
    items, users = np.asarray(log.items), log.users
    is_kept = kept_items[items] & kept_users[users]
    if not is_kept.any():
        raise ValueError(f"protocol: {protocol!r} leaves nothing of the {len(items)} events of dataset {log.name}")
    per_user = np.bincount(users[is_kept], minlength=log.num_users)[kept_users]
    new_ids = np.cumsum(kept_items)  # padding, which is not kept, stays 0
    rows = np.flatnonzero(kept_items)
    facts = {"rows": int(is_kept.sum()), "users": int(kept_users.sum()), "items": len(rows), "protocol": protocol}
    return dataclasses.replace(
        log,
        offsets=np.concatenate([[0], np.cumsum(per_user)]).astype(np.int64),
        items=new_ids[items[is_kept]],
        times=np.asarray(log.times)[is_kept],
        num_items=len(rows) + 1,
        item_texts=None if log.item_texts is None else ("", *(log.item_texts[row] for row in rows)),
        item_categories=None if log.item_categories is None else np.concatenate([[0], log.item_categories[rows]]),
        notes={name: note for name, note in log.notes.items() if name != "statistics"} | facts,  # those are of all events
    )
