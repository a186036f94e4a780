"""Stored cells in the layouts of other programs: pure functions of the records."""
