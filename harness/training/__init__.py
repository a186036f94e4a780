"""Training: one optimisation loop for everything that is learned by gradients, as a lesson (`lesson.py`)."""
