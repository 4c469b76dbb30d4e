"""What the people who run the bridge see of it."""
