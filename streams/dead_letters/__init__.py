"""What was rejected: sealed, found again, mended, and sent again."""
