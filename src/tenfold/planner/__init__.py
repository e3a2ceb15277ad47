"""Plan a run: hardware, cost and memory of layouts, search, and the fleet that fails while it trains."""
