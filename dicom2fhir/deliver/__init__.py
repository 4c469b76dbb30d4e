"""From the store to the destinations: claim, deliver, record the outcome, try again."""
