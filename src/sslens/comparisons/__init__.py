"""What exhibits share: roles, pairs, families, before and after, panels."""
