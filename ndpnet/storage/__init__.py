"""Where data lives: S3 (`s3`, the only importer of boto3), and DVC (`pins`, the only importer of dvc)."""
