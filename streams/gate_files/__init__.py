"""Files that gates are asked about: benchmark results, step events, evaluation results."""
