"""Builds the parts of the daemon from the settings."""
