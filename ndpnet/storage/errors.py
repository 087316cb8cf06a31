"""What an S3 server or its client says is wrong, as one line that names the thing and the mend. Never with a secret."""

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

AGAIN = "run the same command again: it continues"
CREDENTIALS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
DENIED = (
    "access to {url} is denied (ask for s3:ListBucket on the bucket and s3:GetObject on its objects; "
    "to write there s3:PutObject, for a work folder s3:DeleteObject, too)"
)
PASSING_STATUS = {408, 429, 500, 502, 503, 504}
PASSING_CODES = {
    "SlowDown",
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "Throttling",
    "ThrottlingException",
}
# names of botocore's and urllib3's classes: these modules are not loaded for the sake of a name
PASSING_ERRORS = {"HTTPClientError", "ConnectionError", "IncompleteReadError", "ResponseParserError", "HTTPError"}
CREDENTIAL_ERRORS = {
    "NoCredentialsError": "there are no S3 credentials",
    "PartialCredentialsError": "the S3 credentials are incomplete",
    "CredentialRetrievalError": "the S3 credentials cannot be got",
    "ProfileNotFound": "the profile of AWS_PROFILE is not in the AWS configuration",
    "TokenRetrievalError": "the sign-on session has ended (run `aws sso login`)",
    "SSOError": "the sign-on session has ended (run `aws sso login`)",
    "LoginError": "the sign-on session has ended (run `aws login`)",
}
CODES = {
    "NoSuchBucket": "there is no bucket {bucket} at {endpoint} (check the name, and --endpoint-url)",
    "NoSuchKey": "there is no object {url} (any more)",
    "InvalidAccessKeyId": "{endpoint} does not know the access key (check " + CREDENTIALS + ")",
    "SignatureDoesNotMatch": "{endpoint} refuses the secret key (check " + CREDENTIALS + ")",
    "ExpiredToken": "the session token for {endpoint} has expired (sign in again)",
    "InvalidToken": "{endpoint} refuses the session token (sign in again, or unset AWS_SESSION_TOKEN)",
    "AccessDenied": DENIED,
    "AllAccessDisabled": "access to {url} is disabled (ask the owner of the bucket)",
    "RequestTimeTooSkewed": "{endpoint} has another time than this machine (set the clock)",
    "InvalidObjectState": "{url} is archived (restore it first)",
    "PermanentRedirect": "the bucket {bucket} is in another region (set AWS_DEFAULT_REGION)",
    "AuthorizationHeaderMalformed": "the bucket {bucket} is in another region (set AWS_DEFAULT_REGION)",
    "IllegalLocationConstraintException": "the bucket {bucket} is in another region (set AWS_DEFAULT_REGION)",
    "InvalidBucketName": "{bucket!r} is no name of a bucket (give s3://BUCKET/PREFIX)",
    "403": DENIED,
    "404": "there is no object {url}",
}


class ChangedError(Exception):
    """The object under this key is no longer the one that was listed."""


@dataclass(frozen=True)
class Place:
    """What was asked of whom, for messages."""

    endpoint: str
    bucket: str
    key: str

    @property
    def url(self) -> str:
        """As s3://bucket/key."""
        return f"s3://{self.bucket}/{self.key}"


def is_passing(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    status, code = _status_and_code(error)
    if status is not None:
        return status in PASSING_STATUS or code in PASSING_CODES
    return bool(_names_of(error) & PASSING_ERRORS) or isinstance(error, ConnectionError | TimeoutError)


def status_of(error: Exception) -> int | None:
    """Return the HTTP status of an error that the server answered with, else None."""
    return _status_and_code(error)[0]


def is_of_client(error: Exception) -> bool:
    """Whether it is an error of boto3 that no server sent: no credentials, an address that is none."""
    return "BotoCoreError" in _names_of(error)


def explain(error: Exception, place: Place) -> ValueError:
    """Put an error that waiting does not mend into one line."""
    names = _names_of(error)
    for name, text in CREDENTIAL_ERRORS.items():
        if name in names:
            return ValueError(f"{text}: cannot read {place.url} (set {CREDENTIALS})")
    status, code = _status_and_code(error)
    if status is not None:
        text = CODES.get(code) or CODES.get(str(status)) or f"{{endpoint}} refuses {{url}}: {code or status}"
        return ValueError(text.format(endpoint=place.endpoint, bucket=place.bucket, url=place.url))
    if "ParamValidationError" in names:
        return ValueError(f"{place.url!r} is no address on S3 (give s3://BUCKET/PREFIX)")
    return ValueError(f"cannot read {place.url} from {place.endpoint}: {type(error).__name__}")


def explain_lost(error: Exception, place: Place, num_attempts: int, *, was_connected: bool) -> ValueError:
    """Put an error that did not pass in all attempts into one line."""
    status, code = _status_and_code(error)
    if status is not None:
        return ValueError(f"{place.endpoint} fails with {code or status} after {num_attempts} attempts ({AGAIN})")
    if "SSLError" in _names_of(error) and not was_connected:
        return ValueError(
            f"no secure connection to {place.endpoint} (is it http:// only? AWS_CA_BUNDLE names own certificates)"
        )
    if not was_connected:
        return ValueError(f"cannot reach {place.endpoint} (check --endpoint-url or AWS_ENDPOINT_URL, and the network)")
    return ValueError(f"lost the connection to {place.endpoint} after {num_attempts} attempts ({AGAIN})")


def endpoint_name(url: str) -> str:
    """Return an endpoint's address without a user and password that it may carry."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _names_of(error: BaseException) -> set[str]:
    names: Iterable[type] = type(error).__mro__
    return {each.__name__ for each in names}


def _status_and_code(error: Exception) -> tuple[int | None, str]:
    """Return the HTTP status and S3's code of an error that the server answered with, else (None, "")."""
    response = getattr(error, "response", None)
    if not isinstance(response, dict):
        return None, ""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status, str(response.get("Error", {}).get("Code", ""))
