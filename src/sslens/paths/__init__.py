"""The way that weights take while they are trained."""
