"""Networks with named taps: Vision Transformers, the raw-pixel control, and the heads of the
objectives."""
