"""Gates on finished files: pure evaluation, one module per kind."""
