"""torch's containers of modules, typed by what they hold. At run time they are torch's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import ItemsView, Iterable, Iterator, Mapping, ValuesView
    from typing import Generic, TypeVar, overload

    from torch import nn

    ModuleT = TypeVar("ModuleT", bound=nn.Module)

    class ModuleList(nn.ModuleList, Generic[ModuleT]):
        def __init__(self, modules: Iterable[ModuleT]) -> None: ...
        @overload
        def __getitem__(self, idx: slice) -> ModuleList[ModuleT]: ...
        @overload
        def __getitem__(self, idx: int) -> ModuleT: ...
        def __getitem__(self, idx: int | slice) -> ModuleT | ModuleList[ModuleT]: ...
        def __iter__(self) -> Iterator[ModuleT]: ...

    class ModuleDict(nn.ModuleDict, Generic[ModuleT]):
        def __init__(self, modules: Mapping[str, ModuleT]) -> None: ...
        def __getitem__(self, key: str) -> ModuleT: ...
        def items(self) -> ItemsView[str, ModuleT]: ...
        def values(self) -> ValuesView[ModuleT]: ...

else:
    from torch.nn import ModuleDict, ModuleList

__all__ = ["ModuleDict", "ModuleList"]
