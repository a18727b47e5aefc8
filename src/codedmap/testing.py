"""Engines for tests: one that follows a script without any process, one that adds faults to another.

See `codedmap.engines.scripted`, where they are written.
"""

from .engines.scripted import Act as Act
from .engines.scripted import Faulty as Faulty
from .engines.scripted import Scripted as Scripted
from .engines.scripted import ScriptedCluster as ScriptedCluster
from .engines.scripted import corrupt as corrupt
from .engines.scripted import crash as crash
from .engines.scripted import fail as fail
from .engines.scripted import late as late
from .engines.scripted import never as never

__all__ = [name for name in list(globals()) if not name.startswith("_") and name != "engines"]
