"""The pipelines on Kubeflow: their graphs, and compiling, running, submitting and scheduling them."""
