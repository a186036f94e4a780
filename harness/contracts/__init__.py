"""What an extension implements, and nothing else: `Method`, `Task`. No module here imports torch."""
