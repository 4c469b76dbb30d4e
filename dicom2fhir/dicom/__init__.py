"""From bytes to records: the attribute table, the header reader, the decoding of values."""
