"""Linear and deeper probes: hundreds trained together."""
