"""One file is one way in which checkpoints are written: `claim(contents) -> Claim | None`, and
`TITLE`.

A layout recognises a file from keys and shapes alone, never from the file's name, and says what
becomes of every key.
"""

#: what each file of this folder has
REQUIRED = ("TITLE", "claim")
