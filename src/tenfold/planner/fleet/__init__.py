"""The fleet that fails while it trains."""
