"""What type checkers know of a call: points of NumPy have answers of NumPy, and tensors have tensors.

Of anything else, as of lists and of two sketches, the answer may be either. Checkers want tables of other libraries
as arrays, ``np.asarray(table)``. At runtime functions are what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeAlias, overload

from numpy.typing import NDArray
from torch import Tensor

from .solution import Divergence, Solution

if TYPE_CHECKING:
    from .hausdorff import HausdorffDivergence
    from .mmd import Discrepancy
    from .sketches import Sketch
    from .wasserstein import WassersteinBounds

P = ParamSpec("P")
Numbers = NDArray[Any]
Others: TypeAlias = "Sequence[Any] | Sketch"
"""Lists of numbers, or of clouds; not `Any`, of which checkers could not tell which answer is meant."""
Arrays: TypeAlias = "Numbers | Others"
All: TypeAlias = "Tensor | Numbers | Others"


class Divergences(Protocol[P]):
    @overload
    def __call__(
        self, x: Tensor, y: Tensor | Sketch, *args: P.args, **kwargs: P.kwargs
    ) -> Divergence[Tensor, Tensor]: ...
    @overload
    def __call__(self, x: Numbers, y: Arrays, *args: P.args, **kwargs: P.kwargs) -> Divergence[float, Numbers]: ...
    @overload
    def __call__(self, x: Others, y: All, *args: P.args, **kwargs: P.kwargs) -> Divergence[Any, Any]: ...


class Solutions(Protocol[P]):
    @overload
    def __call__(
        self, x: Tensor, y: Tensor | Sketch, *args: P.args, **kwargs: P.kwargs
    ) -> Solution[Tensor, Tensor]: ...
    @overload
    def __call__(self, x: Numbers, y: Arrays, *args: P.args, **kwargs: P.kwargs) -> Solution[float, Numbers]: ...
    @overload
    def __call__(self, x: Others, y: All, *args: P.args, **kwargs: P.kwargs) -> Solution[Any, Any]: ...


class HausdorffDivergences(Protocol[P]):
    @overload
    def __call__(
        self, x: Tensor, y: Tensor, *args: P.args, **kwargs: P.kwargs
    ) -> HausdorffDivergence[Tensor, Tensor]: ...
    @overload
    def __call__(
        self, x: Numbers, y: Arrays, *args: P.args, **kwargs: P.kwargs
    ) -> HausdorffDivergence[float, Numbers]: ...
    @overload
    def __call__(self, x: Others, y: All, *args: P.args, **kwargs: P.kwargs) -> HausdorffDivergence[Any, Any]: ...


class Discrepancies(Protocol[P]):
    @overload
    def __call__(
        self, x: Tensor, y: Tensor | Sketch, *args: P.args, **kwargs: P.kwargs
    ) -> Discrepancy[Tensor, Tensor]: ...
    @overload
    def __call__(self, x: Numbers, y: Arrays, *args: P.args, **kwargs: P.kwargs) -> Discrepancy[float, Numbers]: ...
    @overload
    def __call__(self, x: Others, y: All, *args: P.args, **kwargs: P.kwargs) -> Discrepancy[Any, Any]: ...


class Bounds(Protocol[P]):
    @overload
    def __call__(self, x: Tensor, y: Tensor, *args: P.args, **kwargs: P.kwargs) -> WassersteinBounds[Tensor]: ...
    @overload
    def __call__(self, x: Numbers, y: Arrays, *args: P.args, **kwargs: P.kwargs) -> WassersteinBounds[float]: ...
    @overload
    def __call__(self, x: Others, y: All, *args: P.args, **kwargs: P.kwargs) -> WassersteinBounds[Any]: ...


@overload
def by_kind(function: Callable[Concatenate[Any, Any, P], Divergence]) -> Divergences[P]: ...
@overload
def by_kind(function: Callable[Concatenate[Any, Any, P], Solution]) -> Solutions[P]: ...
@overload
def by_kind(function: Callable[Concatenate[Any, Any, P], HausdorffDivergence]) -> HausdorffDivergences[P]: ...
@overload
def by_kind(function: Callable[Concatenate[Any, Any, P], Discrepancy]) -> Discrepancies[P]: ...
@overload
def by_kind(function: Callable[Concatenate[Any, Any, P], WassersteinBounds]) -> Bounds[P]: ...
def by_kind(function: Any) -> Any:
    """For functions of x and y: the function, whose answers are of the kind of both."""
    return function
