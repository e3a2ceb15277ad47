"""Model, layout and batch chosen together for a goal."""
