"""The commands of ``python -m bench``: the file of a command is the word that is typed."""
