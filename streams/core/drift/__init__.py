"""Has a distribution changed? Comparisons from sketches and counts, references, monitors."""
