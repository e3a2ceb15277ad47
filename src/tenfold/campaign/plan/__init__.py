"""`tenfold plan`: questions to the planner, and its answers as records, lines, a page, pictures and settings."""
