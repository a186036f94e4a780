"""What can be decided here and now, on any method: by block arithmetic, or by a run of a micro model that takes seconds.

A check gets the method as data (`method: {_target_: ..., ...}`), so this package knows no paper. Checks that do are in
`methods/claims/`.
"""
