"""Passkey retrieval: one number hidden in filler, asked for at the end."""

from tasks.passkey.task import Passkey

__all__ = ["Passkey"]
