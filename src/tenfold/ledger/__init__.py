"""The run's memory and the contract of what is in it: runs, metrics, events, incidents, forecasts, changes."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
