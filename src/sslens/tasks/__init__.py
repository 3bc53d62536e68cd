"""Tasks: what is trained on top of a backbone, and how it is judged."""
