"""The store as an SQLite file."""
