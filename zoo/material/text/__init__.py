"""Plain English that ships with the harness: word lists and a small collection of essays.

Generated tasks and the zoo's training data draw their keys and their filler from here, so that both work without a
network. All of it was written for this project; :func:`zoo.material.text.words.digest` names the version in use.
"""
