"""What an S3 server or its client says is wrong, as one line that names the thing and the fix. Never with a secret."""

from botocore import exceptions
from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.exceptions import RetriesExceededError, S3ValidationError

AGAIN = "run the same command again: it continues"
CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
OTHER_REGION = "the bucket of {url} is in another region (set AWS_DEFAULT_REGION)"
DENIED = (
    "access to {url} is denied (ask for s3:ListBucket on the bucket and s3:GetObject on its objects; "
    "to write there s3:PutObject, for a work folder s3:DeleteObject, too)"
)
PASSING = {408, 429, 500, 502, 503, 504}
S3_ERRORS = (BotoCoreError, ClientError, RetriesExceededError, S3ValidationError)
CODES = {
    "NoSuchBucket": "there is no bucket {bucket} at {endpoint} (check the name, and --endpoint-url)",
    "NoSuchKey": "there is no object {url}",
    "InvalidAccessKeyId": "{endpoint} does not know the access key (check " + CREDENTIALS + ")",
    "SignatureDoesNotMatch": "{endpoint} refuses the secret key (check " + CREDENTIALS + ")",
    "AccessDenied": DENIED,
    "403": DENIED,
    "PermanentRedirect": OTHER_REGION,
    "AuthorizationHeaderMalformed": OTHER_REGION,
    "IllegalLocationConstraintException": OTHER_REGION,
}
# the first class that fits; they overlap
CLIENT_ERRORS = (
    (exceptions.NoCredentialsError, f"there are no S3 credentials: cannot read {{url}} (set {CREDENTIALS})"),
    (exceptions.PartialCredentialsError, f"the S3 credentials are incomplete: cannot read {{url}} (set {CREDENTIALS})"),
    (exceptions.ProfileNotFound, f"the profile of AWS_PROFILE is not in the AWS configuration (set {CREDENTIALS})"),
    (exceptions.FlexibleChecksumError, f"{{url}} came with other bytes than its checksum says ({AGAIN})"),
    (exceptions.ParamValidationError, "{url!r} is no address on S3 (give s3://BUCKET/PREFIX)"),
    (
        exceptions.SSLError,
        "no secure connection to {endpoint} (is it http:// only? AWS_CA_BUNDLE names own certificates)",
    ),
    (
        exceptions.ConnectionError,
        "cannot reach {endpoint} (check --endpoint-url or AWS_ENDPOINT_URL, and the network)",
    ),
    ((exceptions.HTTPClientError, RetriesExceededError), f"lost the connection to {{endpoint}} ({AGAIN})"),
)


def explain(error: Exception, *, url: str, endpoint: str) -> ValueError:
    """Put what boto3 has raised, after its own retries, into one line."""
    if isinstance(error, ClientError):
        code, status = code_and_status(error)
        may_pass = f"{{endpoint}} fails with {{code}} ({AGAIN})"
        text = CODES.get(code, may_pass if status in PASSING else "{endpoint} refuses {url}: {code}")
    else:
        code = type(error).__name__
        fitting = (text for classes, text in CLIENT_ERRORS if isinstance(error, classes))
        text = next(fitting, "cannot read {url} from {endpoint}: {code}")
    return ValueError(text.format(url=url, bucket=url.split("/")[2], endpoint=endpoint, code=code))


def code_and_status(error: ClientError) -> tuple[str, int]:
    """S3's code, or the HTTP status where there is none, and the HTTP status."""
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    return str(error.response["Error"].get("Code") or status), status
