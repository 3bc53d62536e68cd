"""k-NN and probes: what can be read from features, as pure functions of them."""
