"""Search over layouts: the fastest that fit, why they take as long as they do, and what would make them faster."""
