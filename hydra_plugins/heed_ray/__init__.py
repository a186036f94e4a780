"""Sweeps on Ray: a Hydra launcher, `hydra/launcher=heed_ray` (`heed run -m launcher=ray ...`). See docs/ray.md.

Hydra looks for launchers in the namespace package `hydra_plugins` and imports every module there whose name has no
underscore in front, at each start; so `launcher` imports neither ray nor torch, and the rest waits until a sweep begins.
"""
