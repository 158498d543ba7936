"""Importing large libraries in less time, or not before they are used."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


@contextmanager
def loading() -> Iterator[None]:
    """Inside, Python does not look for garbage; afterwards it does as before, also after an error.

    Importing torch, transformers and TransformerLens makes a million objects that all stay. Looking them over again and
    again was a sixth of the time (6.4 s of a processor, 5.3 without).
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def lazily() -> Iterator[None]:
    """Inside, ``from package import module`` of a module of ours gives the module unloaded; its first use loads it.

    A file that lists and checks read then says at its top what it measures with, and reading it loads no torch.
    """
    sys.meta_path.insert(0, _Lazy())
    try:
        yield
    finally:
        sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _Lazy)]


class _Lazy(MetaPathFinder):
    """Finds modules of ours as the usual finder does, and puts off running them; packages load nothing heavy."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        if (
            spec is None
            or spec.submodule_search_locations is not None
            or not fullname.startswith("workbench.")
        ):
            return None
        spec.loader = _Later(spec.loader)
        return spec


class _Later(Loader):
    """Makes a module whose code is run by its first use."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Unloaded(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


class _Unloaded(ModuleType):
    """A module that is not loaded yet. Asking for its ``__file__`` and the like does not load it.

    `importlib.util.LazyLoader` would: torch looks through all modules for their files while it is being imported.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__spec__.loader = self.__loader__ = self.__spec__.loader.loader  # type: ignore[union-attr]
        self.__loader__.exec_module(self)  # type: ignore[union-attr]
        return getattr(self, name)
