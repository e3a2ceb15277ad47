"""The fleet that fails while it trains: failure rates, simulation of a whole run, checkpoint interval, spares, size.

`simulate_fleet(FleetRun)` gives a FleetResult; `fleet_run` makes a FleetRun of a cluster and a `[fleet]` table;
`best_interval` and `best_spares` choose; `goodput_curves` says where synchronous training stops making sense.
"""
