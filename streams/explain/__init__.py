"""What changed when an alert fired, found by one query over raw rows."""
