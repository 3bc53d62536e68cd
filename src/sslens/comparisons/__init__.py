"""Code that several analyses share: roles of models, pairs, families, fine-tuning, panels."""
