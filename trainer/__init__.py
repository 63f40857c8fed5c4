"""The trainer: runs one post-training job from a spec, with or without a server."""
