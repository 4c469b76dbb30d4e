"""Delivery of studies from the store to the destinations: claim, deliver, record the outcome, retry."""
