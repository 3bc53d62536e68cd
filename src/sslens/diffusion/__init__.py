"""Diffusion: how noise is added to images, what a network learns from it, and how it paints from
noise; no training and no files."""
