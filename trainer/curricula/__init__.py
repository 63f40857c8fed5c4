"""In which order prompts and rows are visited."""
