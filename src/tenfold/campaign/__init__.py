"""The stages in order, and what each command does. Front door: the functions the command line calls."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
