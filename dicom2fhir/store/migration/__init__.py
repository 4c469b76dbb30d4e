"""From a store in a file to a store in a database."""
