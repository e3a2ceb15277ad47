"""Watching a run: signals measured beside the step, detectors, incidents, exporters, the live page.

Signals are observers of `train` that write metrics; detectors are pure functions of them; incidents lie in the ledger.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
