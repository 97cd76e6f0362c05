"""The store, and what is written to it, read back and rebuilt from it."""
