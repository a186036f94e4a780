"""Training: one optimisation loop for everything this project trains."""
