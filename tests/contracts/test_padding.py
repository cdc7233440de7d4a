"""Padding changes nothing: which rows share a batch, what is left out in front, and what stands in padded slots."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import (
    BACKBONE_NAMES,
    CACHED,
    CASES,
    FAMILIES,
    ITEMS,
    TOLERANCE,
    WITH_HISTORY,
    build,
    elastic,
    random_features,
    random_windows,
    small_split,
)

from persrec.data.windows import WindowShape, build_windows

# In double precision what rounding alone parts is far closer than the contract's tolerance, also where a memory's states go
# through all layers again in every segment.
EXACT = {"rtol": 0, "atol": 1e-9}

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.parametrize("backbone", BACKBONE_NAMES)]


@settings(max_examples=25)
@given(data=st.data(), compression=st.one_of(*FAMILIES.values()))
@torch.no_grad()
def test_a_rows_scores_do_not_depend_on_the_rows_beside_it(backbone, compression, data):
    seed = data.draw(st.integers(0, 9999))
    model = build(backbone, compression, seed=seed).double()
    items, times, query_time = random_windows(compression.layout, seed=seed)
    together = model.score(items, times, query_time)
    some = torch.tensor(data.draw(st.lists(st.integers(0, len(items) - 1), min_size=1, max_size=5)))
    torch.testing.assert_close(model.score(items[some], times[some], query_time[some]), together[some], **EXACT)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_leading_columns_of_padding_may_be_left_out(backbone, case):
    model = build(backbone, CASES[case]())
    layout = model.layout
    for lead in (1, layout.history, layout.window - 1):
        items, times, query_time = random_windows(layout, seed=lead, holes=False)
        items[:, :lead], times[:, :lead] = 0, 0
        whole = model.score(items, times, query_time)
        torch.testing.assert_close(model.score(items[:, lead:], times[:, lead:], query_time), whole, **TOLERANCE)


@pytest.mark.parametrize("case", WITH_HISTORY)
@torch.no_grad()
def test_hidden_states_of_trimmed_windows_are_those_of_whole_ones(backbone, case):
    model = build(backbone, CASES[case]()).double()
    layout = model.layout
    for lead in {1, layout.segments[0].items - 1}:
        items, times, query_time = random_windows(layout, seed=lead, holes=False)
        items[:, :lead], times[:, :lead] = 0, 0
        whole, of_whole = model.hidden_states(items, times, query_time)
        trimmed, of_trimmed = model.hidden_states(items[:, lead:], times[:, lead:], query_time)
        assert (of_trimmed + lead).tolist() == [column for column in of_whole.tolist() if column >= lead]
        torch.testing.assert_close(trimmed, whole[:, len(of_whole) - len(of_trimmed) :], **EXACT)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_windows_from_the_data_score_alike_trimmed_or_not(backbone, case):
    model = build(backbone, CASES[case]())
    data = small_split(users=9, shortest=3)
    shape = WindowShape(segments=tuple(segment.items for segment in model.layout.segments), recent=model.layout.recent)
    ends = data.test.positions
    scores = []
    for rows in (ends > 0, ends < 6):
        for trim in (True, False):
            batch = build_windows(data.sequences, data.test.users[rows], ends[rows], shape, trim=trim)
            parts = (torch.from_numpy(part) for part in (batch.items, batch.times, batch.query_times))
            scores.append(model.score(*parts))
    torch.testing.assert_close(scores[0], scores[1], **TOLERANCE)
    torch.testing.assert_close(scores[2], scores[3], **TOLERANCE)
    torch.testing.assert_close(scores[0][ends < 6], scores[2], **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_what_a_padded_slot_holds_reaches_nothing(backbone, case):
    model = build(backbone, CASES[case]())
    items, times, query_time = random_windows(model.layout, seed=3)
    features = random_features()
    expected = model.score(items, times, query_time, item_features=features)
    other_features, other_times = features.clone(), times.clone()
    other_features[0] = 50.0
    other_times[items == 0] = 1_650_000_000
    found = model.score(items, other_times, query_time, item_features=other_features)
    torch.testing.assert_close(found[:, 1:], expected[:, 1:], **TOLERANCE)
    history = model.layout.history
    if case in CACHED:
        cache = model.compress(items[:, :history], other_times[:, :history], item_features=other_features)
        served = model.score(items[:, history:], other_times[:, history:], query_time, cache=cache, item_features=other_features)
        torch.testing.assert_close(served[:, 1:], expected[:, 1:], **TOLERANCE)


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_a_row_of_padding_alone_stays_finite_and_disturbs_nobody(backbone, case):
    model = build(backbone, CASES[case]())
    items, times, query_time = random_windows(model.layout, seed=4)
    expected = model.score(items, times, query_time)
    items[1], times[1] = 0, 0
    found = model.score(items, times, query_time)
    assert found.isfinite().all()
    others = [0, 2, 3]
    torch.testing.assert_close(found[others], expected[others], **TOLERANCE)


@torch.no_grad()
def test_without_a_history_tokens_are_hidden_as_if_there_were_none(backbone):
    with_tokens, without = build(backbone, elastic(use=6)), build(backbone, elastic(use=0))
    items, times, query_time = random_windows(with_tokens.layout, seed=5)
    gaps = (with_tokens.score(items, times, query_time) - without.score(items, times, query_time)).abs().amax(1)
    has_history = (items[:, : with_tokens.layout.history] != 0).any(1)
    assert has_history.tolist() == [True, True, True, False]
    assert (gaps[has_history] > 1e-3).all()
    assert (gaps[~has_history] <= 1e-5).all()


@torch.no_grad()
def test_the_order_of_a_catalogue_of_raw_vectors_is_that_of_the_scores(backbone):
    model = build(backbone, CASES["1 expert"]())
    items, _, _ = random_windows(model.layout)
    features = random_features()
    order = torch.cat([torch.zeros(1, dtype=torch.int64), 1 + torch.randperm(ITEMS - 1, generator=torch.Generator().manual_seed(0))])
    renamed = order.argsort()[items]
    expected = model.score(items, item_features=features)[:, order]
    torch.testing.assert_close(model.score(renamed, item_features=features[order]), expected, **TOLERANCE)


@pytest.mark.parametrize("case", ["full", "3 alike segments", "pooling"])
@torch.no_grad()
def test_no_users_have_no_scores(backbone, case):
    model = build(backbone, CASES[case]())
    nothing = torch.zeros(0, model.layout.window, dtype=torch.int64)
    assert model.score(nothing).shape == model.score(nothing, nothing).shape == (0, ITEMS)
