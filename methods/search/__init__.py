"""Methods with a search of their own (OPERA)."""
