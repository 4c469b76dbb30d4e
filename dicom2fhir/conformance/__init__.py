"""What the bridge conforms to, from the code that runs and the configuration in force."""
