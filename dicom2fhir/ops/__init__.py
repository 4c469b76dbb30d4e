"""For operators: logs, the state of the daemon, the status document."""
