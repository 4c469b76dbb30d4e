"""C-STORE and C-ECHO over associations."""
