"""Importing large libraries in less time, or not before they are used."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
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
    """Finds modules of ours as the usual finder does, and puts off running them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None or spec.submodule_search_locations is not None:
            return None  # packages are doors: they load nothing heavy
        if fullname.startswith("workbench."):
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(LazyLoader):
    """A module that it made also says what file it is of without being run: ``inspect`` asks every module for that."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        lazy = type(module)

        class Unloaded(ModuleType):
            def __getattribute__(self, name: str) -> Any:
                if name in ("__class__", "__file__", "__name__", "__spec__"):
                    return object.__getattribute__(self, name)
                object.__setattr__(self, "__class__", lazy)
                return getattr(self, name)

        module.__class__ = Unloaded
