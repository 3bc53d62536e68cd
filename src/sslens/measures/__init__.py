"""Measures of similarity: pure functions of arrays."""
