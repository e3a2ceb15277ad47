"""The typed schema of campaign.toml and of a change to it. Front door: Campaign, its sections, loading them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
