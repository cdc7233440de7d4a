"""Peers: models of another library, trained by its own code, that a run measures beside ours.

A peer is a cell's backbone and its compression at once: it has no layout of ours, nothing of it is compressed, and each request computes
its whole window. It is never a reference of our configurations. The declarations here import nothing of the library, which lies in an
environment of its own (`benchmarks.peers`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from persrec.names import PEER, Part, backbones, floors

RECTOOLS = "0.19.0"


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerPart(Part):
    """Another library's model; ``target`` names its class, which the library's own interpreter imports and no other.

    Attributes:
        counterpart: the backbone of ours that it stands beside.
        reads_times: whether the times of items, and that of the request, change its numbers.
    """

    kind: ClassVar[str] = PEER

    counterpart: str
    reads_times: bool = False


PEERS: Mapping[str, PeerPart] = MappingProxyType(
    {
        part.name: part
        for part in (
            PeerPart(
                name="rectools-sasrec", title="RecTools SASRec", target="rectools.models:SASRecModel", counterpart="sasrec",
                explanation="RecTools' SASRecModel, trained by RecTools", package="RecTools", version=RECTOOLS,
            ),
            PeerPart(
                name="rectools-hstu", title="RecTools HSTU", target="rectools.models:HSTUModel", counterpart="hstu", reads_times=True,
                explanation="RecTools' HSTUModel, trained by RecTools", package="RecTools", version=RECTOOLS,
            ),
        )
    }
)  # fmt: skip
_SHAPE: Mapping[str, Any] = MappingProxyType(
    {
        "segments": 1, "tokens": 0, "plan": "equal", "serving": "recompute", "cache_dtype": "float32", "ablation": "none", "staleness": 0,
        "counts": "none", "item_layers": 1, "key_value_heads": None, "feed_forward": None, "dtype": "float32", "device": "cpu",
        "control": False, "counted_only": False, "catalogue": None, "expert_start": "learnt", "request_time": True,
        "expert_weight": 0.0, "distillation": 0.0, "divisor": None,
    }
)  # fmt: skip
_RECIPE: Mapping[str, Any] = MappingProxyType(
    {
        "training": "separate", "warmup_steps": 0, "decays": False, "weight_decay": 0.0, "recent_weight": 0.0, "recent_weight_steps": 1000,
        "moving_windows": False, "copying_start": False, "item_learning_rate": None, "targets_per_step": None,
        "expert_learning_rate": None, "world_size": 1, "accumulation": 1, "autocast": False, "random_cuts": False,
    }
)  # fmt: skip


def check_peer(settings: Mapping[str, Any]) -> None:
    """Refuses settings of a cell that a peer does not have, so that the cell's key says nothing untrue.

    The name of a peer that is not declared here is accepted, so that a record of it can be read.

    Args:
        settings: all of a cell whose backbone or compression is a peer's. Where only cost is measured
            (``training`` none), the recipe is not checked.

    Raises:
        ValueError: a setting is not as a peer has it, or a peer's name stands without its compression or the other way round.
    """
    backbone, compression = settings["backbone"], settings["compression"]
    if compression != PEER:
        raise ValueError(f"compression: {compression!r} with the peer {backbone!r}; expected {PEER!r}")
    if backbone in (*backbones(), *floors()):
        raise ValueError(f"compression: {PEER!r} with backbone {backbone!r}; expected one of the peers {', '.join(PEERS)}")
    part = PEERS.get(backbone)
    expected = dict(_SHAPE) if settings["training"] == "none" else {**_SHAPE, **_RECIPE}
    if part is not None and not part.reads_times:
        expected["time_bias"] = False
    if not settings["negatives"]:
        raise ValueError(f"negatives: 0 with the peer {backbone!r}, whose losses draw some; expected 1 or more")
    for name, value in expected.items():
        if settings[name] != value:
            raise ValueError(f"{name}: {settings[name]!r} with the peer {backbone!r}, which has no such thing; expected {value!r}")
