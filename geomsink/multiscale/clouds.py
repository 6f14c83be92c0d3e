"""Measures, prepared for sums over few pairs: trees, boxes and sketches, each made when it is first asked for."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import cached_property
from typing import Any, TypeVar

from ..choose import pays_to_sketch
from ..costs import Cost
from ..measures import Measure
from .choosing import expected, first_level, width
from .sketch import Nodes
from .tree import Tree
from .truncation import BLOCK, Boxes

Found = TypeVar("Found")

FEW = 8
"""Points of a small box, at least."""
KEOPS_BLOCK = 192
"""Of a box on a GPU where KeOps sums, about: it has as many threads for a block of rows."""
LOOKED_AT, SPARE = 2**15, 2
"""Points that tell how wide cells are, and levels that may be needed beyond."""
LEFT_ALONE = 0.05
"""Share of the points that may have no nodes but themselves for want of levels."""


class Cloud:
    """One measure, prepared: its tree, its boxes and its sketch, shared by the problems that it is part of."""

    def __init__(self, measure: Measure, cost: Cost, epsilon: float):
        self.measure, self.cost, self.epsilon = measure, cost, epsilon
        self._found = dict[Hashable, Any]()

    def once(self, name: Hashable, find: Callable[[], Found]) -> Found:
        """What is asked of a cloud for each of the problems that it is part of."""
        if name not in self._found:
            self._found[name] = find()
        found: Found = self._found[name]
        return found

    @cached_property
    def tree(self) -> Tree:
        return Tree.of(Measure(self.measure.points, self.measure.sizes))

    @cached_property
    def boxes(self) -> Boxes:
        points = self.tree.measure.points
        compiled = points.is_cuda and self.cost.quadratic is None
        return Boxes.of(points, KEOPS_BLOCK if compiled else BLOCK)

    @cached_property
    def small_boxes(self) -> Boxes:
        """Around few points each, for what is not summed by the engine."""
        return Boxes.of(self.tree.measure.points, FEW)

    def is_sketched(self, accuracy: float) -> bool:
        """Whether a few points stand for all of them, as far as some cells tell."""
        if self.cost.quadratic is None:
            return False
        return self.once(
            ("is sketched", accuracy), lambda: pays_to_sketch(*expected(self._wide, self.cost, self.epsilon, accuracy))
        )

    def nodes(self, accuracy: float, engine_name: str = "auto") -> Nodes:
        """Points that stand for all of them; for a Gaussian kernel."""
        return self.once(("nodes", accuracy, engine_name), lambda: self._nodes(accuracy, engine_name))

    def _nodes(self, accuracy: float, engine_name: str) -> Nodes:
        found = Nodes.of(self._wide, self.cost, self.epsilon, accuracy, engine_name)
        if found.left_alone() > LEFT_ALONE and self._wide is not self.tree:
            found = Nodes.of(self.tree, self.cost, self.epsilon, accuracy, engine_name)
        return found

    @cached_property
    def _wide(self) -> Tree:
        """With cells about as wide as sketches need them, and no others."""
        measure, step = self.measure, len(self.measure.points) // LOOKED_AT
        if step < 2:
            return self.tree
        some = Tree.of(Measure(measure.points[::step], measure.sizes[::step]))
        level = first_level(some, width(self.cost, self.epsilon))
        return self.tree if level is None else Tree.of(Measure(measure.points, measure.sizes), level + SPARE)
