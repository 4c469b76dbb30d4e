"""The durable memory of the bridge."""
