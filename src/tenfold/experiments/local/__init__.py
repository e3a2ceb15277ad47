"""Training on the machine at hand: what its own steps take in time and memory, forecast and settled."""
