"""The demonstration: synthetic studies through a real daemon."""
