"""Where payloads are computed."""

from ._contract import Engine as Engine
from ._contract import Kept as Kept
from .executor import FromExecutor as FromExecutor
from .local import Local as Local
from .resident import Resident as Resident

__all__ = ["Engine", "FromExecutor", "Kept", "Local", "Resident"]

for _public in (Engine, FromExecutor, Kept, Local, Resident):
    _public.__module__ = __name__
del _public
