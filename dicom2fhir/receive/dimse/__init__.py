"""C-STORE, C-ECHO, N-CREATE and N-SET over associations."""
