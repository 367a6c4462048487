"""Filters come and go on a stack of nodes while requests pass through it."""

from __future__ import annotations

from qmon.block.dirty import DirtyFilter, DirtyMap
from qmon.block.faults import FaultFilter, Faults
from qmon.block.node import Node
from qmon.block.stack import NodeStack
from tests.support.memory import MemoryNode

SIZE = 1 << 20


def test_a_filter_below_another_is_taken_out_and_the_other_stays() -> None:
    stack, dirty = NodeStack(MemoryNode(SIZE)), DirtyMap(SIZE)
    marking = stack.push(lambda node: DirtyFilter(node, dirty))
    stack.push(lambda node: FaultFilter(node, Faults()))
    stack.top.write(0, b"x" * 512)
    marked = dirty.dirty_bytes
    assert marked > 0
    stack.pop(marking)
    stack.top.write(SIZE // 2, b"x" * 512)
    assert dirty.dirty_bytes == marked
    assert stack.has(FaultFilter)
    assert not stack.has(DirtyFilter)


def test_taking_out_a_filter_does_not_bring_back_an_image_that_was_closed() -> None:
    stack = NodeStack(MemoryNode(SIZE))
    marking = stack.push(lambda node: DirtyFilter(node, DirtyMap(SIZE)))
    other: Node = MemoryNode(SIZE)
    stack.put(other)
    stack.pop(marking)
    assert stack.top is other
