"""Eight faults made for real, and what a real Prometheus server says of them: `python -m tests.alert_drill`."""
