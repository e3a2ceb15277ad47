"""What others read: Prometheus, Grafana, and trackers of experiments."""
