"""Step time and memory of layouts, counted operation by operation."""
