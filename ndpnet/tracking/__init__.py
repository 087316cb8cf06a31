"""What was run, in MLflow: runs and registered models. Importing this loads no MLflow.

It settles what MLflow reads from the environment, before any module here imports it; what the user has set stays.
"""

import os

# what MLflow would else do: wait for minutes, send usage data, print emoji between the lines of a step, and go past the
# server to its store, which clients need not reach
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds of silence
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}
for name, value in DEFAULTS.items():
    os.environ[name] = os.environ.get(name) or value  # empty: as if it were not set
