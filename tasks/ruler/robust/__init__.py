"""The default way to build examples: the reference's distribution, but every example draws from its own generator,
fills its length exactly (steps of one unit, counted on final token ids) and building always ends."""
