"""The path of weights through their space while they are trained."""
