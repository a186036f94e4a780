"""The zoo: micro models that ship with the repository, each with the recipe that trained it (README.md).

Importing this package needs no torch. A member is a folder that `from_pretrained` accepts; its card is README.md.
"""
