"""Many runs, one answer: ladder, forecast, value of a change, this machine's own steps."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
