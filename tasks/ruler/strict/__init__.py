"""The reference's own way to build examples, draw by draw, so that prompts are byte-identical for equal tokenizer,
lists and files."""
