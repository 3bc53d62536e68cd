"""Layouts: one file is one way in which checkpoints are written. It has `TITLE` and
`claim(contents) -> Claim | None`.

A layout recognises a file from keys and shapes alone, never from the file's name, and says what
happens to every key.
"""

#: what each file of this folder has
REQUIRED = ("TITLE", "claim")
