"""Where payloads are computed."""

from ._contract import Engine as Engine
from ._contract import Kept as Kept
from .executor import FromExecutor as FromExecutor
from .local import Local as Local
from .resident import Resident as Resident

__all__ = ["Engine", "FromExecutor", "Kept", "Local", "Resident"]
