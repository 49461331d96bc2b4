"""Pictures in an S3-compatible storage, under addresses that are signed and expire."""

from __future__ import annotations

import importlib
from typing import Any

from apps.line_bot.pictures import checked_address
from apps.line_bot.settings import MOST_SIGNED, BotSettings, Secrets
from ldm.errors import UserError

FOLDER = "line_bot"
LONGEST_SIGNATURE = int(MOST_SIGNED * 3600)  # seconds


class S3Pictures:
    """Pictures in a bucket.

    Args:
        client: A client of boto3 for ``s3``, or one with the same three methods.
        bucket: The bucket's name.
        seconds: How long addresses hold, in seconds.
    """

    def __init__(self, client: Any, bucket: str, seconds: float) -> None:
        self._client, self._bucket = client, bucket
        self._seconds = int(min(seconds, LONGEST_SIGNATURE))

    @classmethod
    def of(cls, settings: BotSettings, secrets: Secrets) -> S3Pictures:
        """Return the storage that the settings name.

        Raises:
            UserError: boto3 is not installed, or the storage's address is not https.
        """
        if settings.s3_endpoint:
            checked_address(settings.s3_endpoint)
        try:
            boto3 = importlib.import_module("boto3")
        except ImportError:
            raise UserError(
                "--store s3 was given, and the package boto3 is not installed; expected it; run: "
                "pip install boto3"
            ) from None
        keys = {
            "aws_access_key_id": secrets.s3_access_key.reveal() or None,
            "aws_secret_access_key": secrets.s3_secret_key.reveal() or None,
        }
        client = boto3.client("s3", endpoint_url=settings.s3_endpoint, **keys)
        return cls(client, settings.s3_bucket or "", settings.keep_hours * 3600)

    def put(self, name: str, data: bytes) -> str:
        """Store a JPEG; see ``PictureStore``."""
        key = f"{FOLDER}/{name}.jpg"
        self._call("put_object", Bucket=self._bucket, Key=key, Body=data, ContentType="image/jpeg")
        return key

    def url(self, handle: str) -> str:
        """Return an address that holds as long as the picture is kept."""
        where = {"Bucket": self._bucket, "Key": handle}
        made = self._client.generate_presigned_url(
            "get_object", Params=where, ExpiresIn=self._seconds
        )
        return checked_address(made)

    def remove(self, handle: str) -> None:
        """Remove a picture; one that is not there is no error to S3."""
        self._call("delete_object", Bucket=self._bucket, Key=handle)

    def _call(self, method: str, **values: Any) -> None:
        try:
            getattr(self._client, method)(**values)
        except Exception as error:  # boto3 makes its classes while it runs
            raise OSError(f"the storage failed: {type(error).__name__}") from None
