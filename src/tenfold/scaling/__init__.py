"""Know before you train: laws fitted on small runs, forecasts of larger ones, and how well they did."""
