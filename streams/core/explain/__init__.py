"""What changed when an alert fired: which slices explain it, by how much, and in words."""
