"""Places labels beside their points, so that no label covers another, and labels cover as few marks as possible."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.analysis.estimates import Floats

Box = tuple[float, float, float, float]  # left, bottom, right, top
READABLE = 260.0
_RADII = (5.0, 9.0, 15.0, 23.0, 33.0, 45.0, 60.0, 78.0)
_DIRECTIONS = tuple(math.radians(angle) for angle in (0, 180, 90, 270, 45, 135, 315, 225, 20, 160, 340, 200, 65, 115, 295, 245))
_OVER_LABEL, _OUTSIDE, _OVER_MARK, _AWAY, _CROSSING, _THROUGH_MARK = 50.0, 200.0, 3.0, 6.0, 400.0, 90.0
_ALONG = np.linspace(0.05, 1.0, 12)  # the places on a leader where we look for what it crosses


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """A box per label, and how badly the worst of them is placed; up to ``READABLE`` none is far from its point or over another."""

    boxes: tuple[Box, ...]
    worst: float


def place(points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], *, marks: Sequence[Box], bounds: Box) -> Placement:
    """A box for each label, in the order of the points.

    Greedy and deterministic: each label takes the candidate around its point that covers least, near before far.

    Args:
        points: where the labelled marks are.
        sizes: width and height of the labels.
        marks: what labels should not cover (markers, error bars, lines).
        bounds: labels stay inside.
    """
    obstacles = np.array(marks, dtype=np.float64).reshape(len(marks), 4)
    label_boxes, leaders = np.zeros((0, 4)), np.zeros((0, 4))
    boxes: list[Box] = []
    worst = 0.0
    for point, size in zip(points, sizes, strict=True):
        candidates = _candidates(point, size)
        ends = np.column_stack([np.clip(point[axis], candidates[:, axis], candidates[:, axis + 2]) for axis in (0, 1)])
        costs = (
            _CROSSING * (_crossings(point, ends, leaders) + _hits(point, ends, label_boxes))
            + _THROUGH_MARK * _hits(point, ends, _away_from(point, obstacles))
            + _OVER_LABEL * _overlap(candidates, label_boxes)
            + _OVER_MARK * _overlap(candidates, obstacles)
            + _OUTSIDE * _outside(candidates, bounds)
            + _AWAY * np.repeat(_RADII, len(_DIRECTIONS))
        )
        index = int(np.argmin(costs))
        worst = max(worst, float(costs[index]))
        best = candidates[index]
        label_boxes, leaders = np.vstack([label_boxes, best]), np.vstack([leaders, [*point, *ends[index]]])
        boxes.append((float(best[0]), float(best[1]), float(best[2]), float(best[3])))
    return Placement(boxes=tuple(boxes), worst=worst)


def spread(positions: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Moves positions apart to at least ``gap``, inside ``low`` to ``high``, in the same order and as near to where they were as possible.

    Where there is no room for that, it spaces them evenly.
    """
    count = len(positions)
    if count == 0:
        return []
    if gap * (count - 1) >= high - low:
        even = np.linspace(low, high, count) if count > 1 else np.array([(low + high) / 2])
        order = np.argsort(positions, kind="stable")
        result = np.empty(count)
        result[order] = even
        return [float(value) for value in result]
    order = np.argsort(positions, kind="stable")
    # blocks of labels that touch move as one, to the mean of where their members want to be
    blocks: list[list[float]] = []
    for position in np.asarray(positions, dtype=np.float64)[order]:
        blocks.append([float(position), 1.0])
        while len(blocks) > 1 and _top(blocks[-2], gap, low, high) + gap > _bottom(blocks[-1], gap, low, high):
            centre, members = blocks.pop()
            before, others = blocks.pop()
            blocks.append([(centre * members + before * others) / (members + others), members + others])
    result = np.empty(count)
    at = 0
    for block in blocks:
        bottom = _bottom(block, gap, low, high)
        for member in range(int(block[1])):
            result[order[at]] = bottom + member * gap
            at += 1
    return [float(value) for value in result]


def _bottom(block: Sequence[float], gap: float, low: float, high: float) -> float:
    half = gap * (block[1] - 1) / 2
    return min(max(block[0] - half, low), high - 2 * half)


def _top(block: Sequence[float], gap: float, low: float, high: float) -> float:
    return _bottom(block, gap, low, high) + gap * (block[1] - 1)


def _candidates(point: tuple[float, float], size: tuple[float, float]) -> Floats:
    width, height = size
    boxes = []
    for radius in _RADII:
        for angle in _DIRECTIONS:
            across, up = math.cos(angle), math.sin(angle)
            centre_x = point[0] + across * (radius + width / 2)
            centre_y = point[1] + up * (radius + height / 2)
            boxes.append((centre_x - width / 2, centre_y - height / 2, centre_x + width / 2, centre_y + height / 2))
    return np.array(boxes)


def _overlap(boxes: Floats, others: Floats) -> Floats:
    """The area of each box that others cover."""
    if len(others) == 0:
        return np.zeros(len(boxes))
    widths = np.minimum(boxes[:, None, 2], others[None, :, 2]) - np.maximum(boxes[:, None, 0], others[None, :, 0])
    heights = np.minimum(boxes[:, None, 3], others[None, :, 3]) - np.maximum(boxes[:, None, 1], others[None, :, 1])
    total: Floats = (np.maximum(widths, 0.0) * np.maximum(heights, 0.0)).sum(axis=1)
    return total


def _away_from(point: tuple[float, float], boxes: Floats) -> Floats:
    """The boxes that do not hold the point itself."""
    x, y = point
    holding = (boxes[:, 0] <= x) & (boxes[:, 2] >= x) & (boxes[:, 1] <= y) & (boxes[:, 3] >= y)
    return boxes[~holding]


def _crossings(point: tuple[float, float], ends: Floats, leaders: Floats) -> Floats:
    """How many earlier leaders (rows of x, y, x, y) the leader from the point to each end crosses."""
    start = np.asarray(point)
    crossings = np.zeros(len(ends))
    for leader in leaders:
        first, second = leader[:2], leader[2:]
        apart = _side(first, second, start[None, :]) * _side(first, second, ends) < 0
        around = _side_of_each(start, ends, first) * _side_of_each(start, ends, second) < 0
        crossings += apart & around
    return crossings


def _side(first: Floats, second: Floats, points: Floats) -> Floats:
    """On which side of the line from first to second each point lies."""
    sides: Floats = (second[0] - first[0]) * (points[:, 1] - first[1]) - (second[1] - first[1]) * (points[:, 0] - first[0])
    return sides


def _side_of_each(start: Floats, ends: Floats, point: Floats) -> Floats:
    """On which side of the line from start to each end the point lies."""
    sides: Floats = (ends[:, 0] - start[0]) * (point[1] - start[1]) - (ends[:, 1] - start[1]) * (point[0] - start[0])
    return sides


def _hits(point: tuple[float, float], ends: Floats, boxes: Floats) -> Floats:
    """How many of the boxes the leader from the point to each end runs through."""
    start = np.asarray(point)
    along = start + _ALONG[None, :, None] * (ends - start)[:, None, :]
    x, y = along[..., 0, None], along[..., 1, None]
    inside = (x > boxes[:, 0]) & (x < boxes[:, 2]) & (y > boxes[:, 1]) & (y < boxes[:, 3])
    hits: Floats = inside.any(axis=1).sum(axis=1).astype(np.float64)
    return hits


def _outside(boxes: Floats, bounds: Box) -> Floats:
    left, bottom, right, top = bounds
    over: Floats = (
        np.maximum(left - boxes[:, 0], 0.0)
        + np.maximum(bottom - boxes[:, 1], 0.0)
        + np.maximum(boxes[:, 2] - right, 0.0)
        + np.maximum(boxes[:, 3] - top, 0.0)
    )
    return over
