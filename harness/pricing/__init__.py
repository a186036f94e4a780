"""What a plan costs before anything is run: tokens, operations, memory, time. No torch is imported and no model is loaded.

model.py     a model's numbers, off its config.json
requests.py  how many prompts a task asks, and how long they are
batches.py   which of them are computed together
burden.py    what a method makes of a forward pass: a share of the pairs, a second stream, beams
work.py      operations and bytes of a batch, by formula
speed.py     how fast this machine is, measured in a moment
earlier.py   what earlier runs on this machine took, to correct the estimate by
price.py     all of it together, for every cell, and what sharing saves
"""
