"""What every room writes again otherwise: errors, files, the campaign folder, console, signals."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
