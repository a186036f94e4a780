"""Attaching a method to a live model: `attach.attach`, and the proof that it did something: `engaged.prove`.

`dispatch` is what transformers calls; `meta` is what reaches it in place of a mask; `dense`, `gather`, `flex` and
`selected` are the ways to compute a sparse attention; `cache` knows the true position of every cached key; `usage`
counts what was really read.
"""
