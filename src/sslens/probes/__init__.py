"""What a representation knows: k-NN and probes, as pure functions of features."""
