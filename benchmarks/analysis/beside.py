"""Peers beside ours: what each reaches, and how long ours takes to the peer's best on validation.

A peer is no reference of our configurations, and no verdict on tokens rests on it. It is compared with full attention of ours on the same
data, window and number of processors, chosen on validation.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.analysis.configurations import Configuration
from benchmarks.analysis.references import best_on_validation
from benchmarks.peers.part import PEERS
from benchmarks.records import Record, TrainedModel

NO_COUNTERPART = "no trained full attention of ours at this window, beside it"
OTHER_MACHINE = "not trained on one machine with as many threads, so seconds say nothing"
NOT_REACHED = "not reached"
ELASTIC = "ours is elastic, and its figures in training are of two lengths"
NO_CURVE = "the records hold no seconds of epochs"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PeerBeside:
    """A peer, and full attention of ours that stands beside it, if any.

    Attributes:
        peer: the peer.
        ours: our best on validation of the backbone that is its counterpart; of several seeds their mean counts.
        best_validation: NDCG@10 of the peer at its best, the mean over seeds.
        peer_seconds: of training until then, validations apart, the mean over seeds.
        our_seconds: of ours until validation first reached ``best_validation``, the mean over seeds; None where ``reason`` says why.
        reason: why there are no seconds of ours.
    """

    peer: Configuration
    ours: Configuration | None
    best_validation: float | None
    peer_seconds: float | None
    our_seconds: float | None
    reason: str = ""

    @property
    def share(self) -> float | None:
        """Our seconds over the peer's."""
        return None if not self.peer_seconds or self.our_seconds is None else self.our_seconds / self.peer_seconds


def beside(among: Sequence[Configuration]) -> list[PeerBeside]:
    """Each trained peer with a quality beside ours."""
    return [_beside(one, among) for one in among if one.is_peer and _models(one)]


def counterpart(peer: Configuration, among: Iterable[Configuration]) -> Configuration | None:
    """Full attention of ours that a peer stands beside, the best on validation; None where the run has none.

    Models of this length alone come before elastic ones, whose seconds cannot be compared with a peer's.
    """
    part = PEERS.get(peer.cell.backbone) or peer.parts.peer
    backbone = "" if part is None else part.counterpart
    candidates = [
        one
        for one in among
        if one.cell.compression == "full"
        and one.cell.backbone == backbone
        and one.window == peer.window
        and not one.changed
        and _models(one)
        and _data(one) == _data(peer)
    ]
    return best_on_validation([one for one in candidates if one.cell.training != "elastic"] or candidates)


def _beside(peer: Configuration, among: Sequence[Configuration]) -> PeerBeside:
    ours, models = counterpart(peer, among), _models(peer)
    best = _mean([model.best_validation for model in models])
    theirs = _mean([seconds_to(model, model.best_validation) for model in models])
    if ours is None:
        return PeerBeside(peer=peer, ours=None, best_validation=best, peer_seconds=theirs, our_seconds=None, reason=NO_COUNTERPART)
    seconds, reason = None, ""
    if len({_machine(record) for one in (peer, ours) for record in one.measured}) > 1:
        reason = OTHER_MACHINE
    elif ours.cell.training == "elastic":
        reason = ELASTIC
    elif theirs is None or not all(model.curve for model in _models(ours)):
        reason = NO_CURVE
    else:
        seconds = _mean([seconds_to(model, best) for model in _models(ours)])
        reason = NOT_REACHED if seconds is None else ""
    return PeerBeside(peer=peer, ours=ours, best_validation=best, peer_seconds=theirs, our_seconds=seconds, reason=reason)


def seconds_to(model: TrainedModel, level: float | None) -> float | None:
    """Seconds of training, validations apart, until the validation figure first was ``level`` or more; None where it never was."""
    elapsed = 0.0
    for epoch in model.curve:
        if epoch.seconds is None or level is None:
            return None
        elapsed += epoch.seconds
        if epoch.validation is not None and epoch.validation >= level:
            return elapsed
    return None


def _models(one: Configuration) -> list[TrainedModel]:
    return [record.model for record in one.measured if record.model is not None]


def _data(one: Configuration) -> tuple[object, ...]:
    return one.dataset_digest, one.cell.split, one.cell.protocol, one.cell.device


def _machine(record: Record) -> tuple[object, ...]:
    return record.trained_on, record.cell.threads


def _mean(values: Sequence[float | None]) -> float | None:
    known_values = [value for value in values if value is not None]
    return sum(known_values) / len(known_values) if known_values and len(known_values) == len(values) else None
