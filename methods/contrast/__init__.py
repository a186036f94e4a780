"""Methods that contrast logits: with a second stream (VCD, ICD, VDD, M3ID) or with an earlier layer (DoLa)."""
