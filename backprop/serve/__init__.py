"""The inference server: many models in one process, and the hub they are uploaded to."""
