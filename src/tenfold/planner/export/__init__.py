"""A planned job as settings of the programs that can train it."""
