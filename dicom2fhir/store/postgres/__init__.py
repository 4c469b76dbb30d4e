"""The store in PostgreSQL, which several daemons share (extra ``postgres``)."""
