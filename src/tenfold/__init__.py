"""tenfold: from "what would ten times the compute buy us?" to a finished, evaluated, explained model.

What `import tenfold` offers is listed in `__init__.pyi`; each name is loaded when it is first asked for.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
