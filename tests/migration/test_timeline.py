"""A time line's memory is bounded, and what is put together loses neither its peak nor its count."""

from __future__ import annotations

from qmon.migration.timeline import MAX_MARKS, MAX_POINTS, Mark, Point, Timeline


def test_a_day_has_a_few_hundred_points_and_keeps_the_longest_wait() -> None:
    timeline = Timeline()
    at = 0.0
    while at < 86400:
        at += timeline.spacing
        timeline.add(Point(at, int(at), 0, 0, 7 if 1000 < at < 1010 else 1, 0))
    points = timeline.points
    assert MAX_POINTS // 2 <= len(points) < MAX_POINTS
    assert max(point.wait_ns for point in points) == 7
    assert points == sorted(points, key=lambda point: point.at)
    assert points[-1].sent == int(at)


def test_marks_of_a_kind_are_put_together_and_counted() -> None:
    timeline = Timeline()
    timeline.mark(Mark.STATE, "active")
    for number in range(5000):
        timeline.mark(Mark.ROUND, str(number))
    found = timeline.happenings
    assert len(found) <= MAX_MARKS + 1
    assert found[0].text == "active"
    assert sum(each.count for each in found if each.kind is Mark.ROUND) == 5000
    assert found[-1].text == "4999"
