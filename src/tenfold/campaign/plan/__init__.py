"""Plans of a campaign before it runs: what it will take, registered and settled like every forecast."""
