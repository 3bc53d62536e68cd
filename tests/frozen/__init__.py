"""Today's behaviour, written down before the code moved: inputs, tables, texts and names."""
