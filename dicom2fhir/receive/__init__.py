"""The ways in: C-STORE associations and folders."""
