"""Makes the imports of the Langfuse SDK v2 work: `langfuse.decorators`, `langfuse.callback`.

Newer SDKs lack these modules. `install` answers such imports with the names of
`otelbridge.compat.langfuse_v2`, loaded at that moment, and puts its `Langfuse` in the place of the
class of that name. Importing them loads the `langfuse` package, as it always did.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final

import wrapt

from otelbridge import _guard

_SOURCE: Final = "otelbridge.compat.langfuse_v2"
#: Modules of the SDK v2 and what they give.
MODULES: Final[dict[str, tuple[str, ...]]] = {
    "langfuse.decorators": ("observe", "langfuse_context"),
    "langfuse.callback": ("CallbackHandler",),
    "langfuse.client": ("Langfuse",),
}
_replaced: dict[str, Any] = {}
_state = {"installed": False, "hooked": False}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and loads the modules of the table."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in MODULES:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=_SOURCE)

    def exec_module(self, module: ModuleType) -> None:
        source = importlib.import_module(_SOURCE)
        for name in MODULES[module.__name__]:
            setattr(module, name, getattr(source, name))


_finder: Final = _Finder()


def install() -> None:
    """Answer the v2 imports from now on; idempotent.

    To be called before the application imports them, as `configure()` does with
    `OTELBRIDGE_COMPAT=langfuse_v2`.
    """
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _state["installed"] = True
    if not _state["hooked"]:
        _state["hooked"] = True
        hook = _guard.guarded("langfuse v2 names", None)(_replace)
        wrapt.register_post_import_hook(hook, "langfuse")
    elif (module := sys.modules.get("langfuse")) is not None:
        _replace(module)


def uninstall() -> None:
    """Take the v2 modules and names away again; what was imported keeps working."""
    _state["installed"] = False
    if _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    package = sys.modules.get("langfuse")
    for name in MODULES:
        if (module := sys.modules.get(name)) is not None and _is_ours(module):
            del sys.modules[name]
            if package is not None:
                package.__dict__.pop(name.rpartition(".")[2], None)
    if package is not None and _replaced:
        package.__dict__.update(_replaced)
    _replaced.clear()


def _is_ours(module: ModuleType) -> bool:
    return getattr(module.__spec__, "loader", None) is _finder


def _replace(module: Any) -> None:
    """`from langfuse import Langfuse` gives the class with the methods of v2."""
    if _state["installed"] and "Langfuse" not in _replaced:
        _replaced["Langfuse"] = module.__dict__.get("Langfuse")
        module.Langfuse = importlib.import_module(_SOURCE).Langfuse
