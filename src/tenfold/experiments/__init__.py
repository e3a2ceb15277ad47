"""Many runs, one answer: ladder, forecast, value of a change, this machine's own steps."""
