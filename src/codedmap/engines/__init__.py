"""Engines: where calls run."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..contracts.engine import CallFuture as CallFuture
from ..contracts.engine import Engine as Engine
from ..contracts.engine import Kept as Kept
from ..errors import EngineError
from .executor import FromExecutor as FromExecutor
from .local import Local as Local
from .resident import Resident as Resident

if TYPE_CHECKING:
    from .dask import Dask as Dask
    from .ray import Ray as Ray

__all__ = ["CallFuture", "Dask", "Engine", "FromExecutor", "Kept", "Local", "Ray", "Resident"]


def __getattr__(name: str) -> Any:
    """Load the engine of a cluster when it is first asked for, because its library is an extra."""
    if name not in ("Dask", "Ray"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    extra = name.lower()
    try:
        engine: Any = getattr(import_module(f".{extra}", __name__), name)
    except ModuleNotFoundError as error:
        raise EngineError(
            f"engines.{name} needs {error.name}: pip install 'codedmap[{extra}]'"
        ) from error
    engine.__module__ = __name__
    globals()[name] = engine
    return engine


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
