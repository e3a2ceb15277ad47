"""Plan a run: hardware, cost and memory of layouts, search, and the fleet that fails while it trains."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
