"""Work that ends: an import of an archive, a conversion of files."""
