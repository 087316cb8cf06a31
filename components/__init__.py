"""Kubeflow components, one file each: what it takes, what it gives, and a call. They run in the project's own image."""
