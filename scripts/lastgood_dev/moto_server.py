"""Runs moto's S3 server, which would say of every unfinished upload that it began in 2010, and so has the janitor abort live ones."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from moto.s3.models import FakeMultipart
from moto.s3.responses import S3Response
from moto.server import main

_begin, _list = FakeMultipart.__init__, S3Response.list_multipart_uploads


def _begin_now(upload: Any, *args: Any, **options: Any) -> None:
    _begin(upload, *args, **options)
    upload.began = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _list_with_times(response: Any) -> Any:
    uploads = response.backend.list_multipart_uploads(response.bucket_name)
    serialize = response.serialized

    def serialized(action: Any) -> Any:
        for listed in action.result["Uploads"]:
            listed["Initiated"] = uploads[listed["UploadId"]].began if listed["UploadId"] in uploads else listed["Initiated"]
        return serialize(action)

    response.serialized = serialized
    return _list(response)


FakeMultipart.__init__ = _begin_now
S3Response.list_multipart_uploads = _list_with_times

if __name__ == "__main__":
    main()
