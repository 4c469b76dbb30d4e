"""The durable storage of the bridge."""
