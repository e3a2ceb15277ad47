"""One optimisation step, the loop around it, and everything a run needs to survive. Newcomers start at step.py."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
