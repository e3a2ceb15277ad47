"""Scaling laws: fit the small runs, forecast the large one with intervals that hold, and measure effective compute.

Numbers only: nothing here imports torch, so `tenfold predict --table` starts at once.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
