import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report.figures.placement import READABLE, place, spread

BOUNDS = (0.0, 0.0, 700.0, 300.0)


def overlap(one, other):
    return min(one[2], other[2]) > max(one[0], other[0]) and min(one[3], other[3]) > max(one[1], other[1])


def test_a_label_alone_stands_beside_its_point():
    placed = place([(100.0, 100.0)], [(40.0, 10.0)], marks=[(95.0, 95.0, 105.0, 105.0)], bounds=BOUNDS)
    assert placed.boxes == ((105.0, 95.0, 145.0, 105.0),)
    assert placed.worst <= READABLE


def test_labels_stay_inside():
    placed = place([(699.0, 299.0)], [(60.0, 10.0)], marks=[], bounds=BOUNDS)
    ((left, bottom, right, top),) = placed.boxes
    assert left >= 0
    assert bottom >= 0
    assert right <= 700
    assert top <= 300


def test_labels_of_a_crowd_do_not_overlap():
    points = [(100.0 + 12 * i, 100.0 + 12 * i) for i in range(8)]
    placed = place(points, [(80.0, 10.0)] * 8, marks=[(x - 4, y - 4, x + 4, y + 4) for x, y in points], bounds=BOUNDS)
    assert not any(overlap(one, other) for one, other in itertools.combinations(placed.boxes, 2))


def test_too_many_for_the_room_is_said():
    points = [(350.0, 150.0)] * 40
    assert place(points, [(200.0, 30.0)] * 40, marks=[], bounds=BOUNDS).worst > READABLE


def test_it_is_the_same_every_time():
    points = [(50.0 * i % 370, 31.0 * i % 170) for i in range(12)]
    placed = [place(points, [(70.0, 10.0)] * 12, marks=[], bounds=BOUNDS) for _ in range(2)]
    assert placed[0] == placed[1]


positions = st.lists(st.floats(0, 100), min_size=1, max_size=12)


@given(positions)
def test_spread_keeps_order_gap_and_limits(wanted):
    found = spread(wanted, gap=5.0, low=0.0, high=100.0)
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    moved = [found[i] for i in order]
    assert all(after - before >= 5.0 - 1e-6 for before, after in itertools.pairwise(moved))
    assert min(found) >= -1e-6
    assert max(found) <= 100 + 1e-6


def test_spread_moves_nothing_that_has_room():
    assert spread([10.0, 50.0, 90.0], gap=5.0, low=0.0, high=100.0) == [10.0, 50.0, 90.0]


def test_spread_moves_a_touching_pair_apart_evenly():
    assert spread([50.0, 50.0], gap=6.0, low=0.0, high=100.0) == [47.0, 53.0]


@pytest.mark.parametrize(("wanted", "found"), [([], []), ([3.0], [3.0]), ([5.0, 5.0, 5.0], [0.0, 5.0, 10.0])])
def test_spread_without_room_is_even(wanted, found):
    assert spread(wanted, gap=8.0, low=0.0, high=10.0) == found
