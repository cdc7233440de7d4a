"""A trained model under published protocols: all of them on all events, its own alone where it was trained under one."""

import dataclasses

import pytest
import torch
from tiny_cells import LOG
from torch.nn.functional import normalize

from benchmarks.probes.quality import under_protocols
from persrec.data.protocol import Protocol
from persrec.data.splits import leave_one_out, temporal


@pytest.fixture
def vectors():
    generator = torch.Generator().manual_seed(1)
    data = leave_one_out(dataclasses.replace(LOG, protocol=Protocol(seen_items="excluded")))
    sizes = (len(data.test), data.num_items)
    return data, *(normalize(torch.randn(size, 8, generator=generator), dim=1) for size in sizes)


def test_each_protocol_that_the_events_allow_is_a_row(vectors):
    data, states, features = vectors

    def rows(trained_under):
        found = under_protocols(states, features, data, request_time=True, trained_under=trained_under)
        return [(row["name"], row["request_time"], row["asks_request_time"]) for row in found]

    assert rows("own") == [("rectools", True, True), ("5-core", True, False)]
    assert rows("5-core") == [("5-core", True, False)]  # the rare items of the other are not there to be ranked
    assert rows("rectools") == [("rectools", True, True)]


def test_a_row_holds_metrics_of_the_items_that_the_protocol_ranks(vectors):
    data, states, features = vectors
    whole, _ = under_protocols(states, features, data, request_time=False, trained_under="own")
    assert whole["items"] == data.num_items - 1
    assert 0 < whole["metrics"]["ndcg@10"]["value"] < 1
    assert whole["metrics"]["ndcg@10"]["n"] == len(data.test)


def test_no_protocol_is_claimed_where_seen_items_stay_or_days_split(vectors):
    data, states, features = vectors
    for other in (leave_one_out(LOG), temporal(dataclasses.replace(LOG, protocol=Protocol(seen_items="excluded")))):
        assert under_protocols(states[: len(other.test)], features, other, request_time=True, trained_under="own") == []
