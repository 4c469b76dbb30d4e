"""From bytes to records: the attributes taken, the header reader, the decoding of values."""
