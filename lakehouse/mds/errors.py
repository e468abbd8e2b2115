"""Errors as the Iceberg REST specification has them: a status, and {"error": {"message", "type", "code"}}."""

from __future__ import annotations

import logging

from pydantic import ValidationError as MalformedBody
from pyiceberg import exceptions
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from starlette.responses import JSONResponse

_LOG = logging.getLogger(__name__)
_RETRY_AFTER = {"Retry-After": "1"}
_SERVER_ERROR = 500

# The first that fits counts; what a stored file's content raises is no fault of the client, so before ValueError.
_KNOWN: tuple[tuple[type[Exception], int, str], ...] = (
    (exceptions.NoSuchNamespaceError, 404, "NoSuchNamespaceException"),
    (exceptions.NoSuchTableError, 404, "NoSuchTableException"),
    (exceptions.NamespaceAlreadyExistsError, 409, "AlreadyExistsException"),
    (exceptions.TableAlreadyExistsError, 409, "AlreadyExistsException"),
    (exceptions.NamespaceNotEmptyError, 409, "NamespaceNotEmptyException"),
    (exceptions.CommitFailedException, 409, "CommitFailedException"),
    (exceptions.ValidationError, 500, "InternalServerError"),
    (UnicodeError, 500, "InternalServerError"),
    (NotImplementedError, 406, "UnsupportedOperationException"),
    (exceptions.ValidationException, 400, "BadRequestException"),
    (ValueError, 400, "BadRequestException"),
)


class UnprocessableError(Exception):
    """The request can be read and contradicts itself."""


def error_response(status: int, kind: str, message: str) -> JSONResponse:
    """Return an error as the specification has it; one that says "not now" also says when to come again."""
    body = {"error": {"message": message, "type": kind, "code": status}}
    return JSONResponse(body, status, headers=_RETRY_AFTER if status == 503 else None)  # noqa: PLR2004 - HTTP's number


def response_to(error: Exception, *, commit_sent: bool) -> JSONResponse:
    """Return the answer to a request that raised `error`.

    Where the database or the object store failed, `commit_sent` decides: before a COMMIT nothing was changed and the
    client may come again (503); after it nobody knows, and the client must look before it writes again (500).
    """
    if isinstance(error, MalformedBody):
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "body"
        return error_response(400, "BadRequestException", f"{where}: {first['msg']}")
    if isinstance(error, UnprocessableError):
        return error_response(422, "UnprocessableEntityException", str(error))
    if isinstance(error, IntegrityError):
        return error_response(409, "AlreadyExistsException", "another request created the same at the same time")
    for known, status, kind in _KNOWN:
        if isinstance(error, known):
            if status >= _SERVER_ERROR:
                _LOG.error("stored metadata cannot be read: %s", _brief(error))
                return error_response(status, kind, "the stored metadata of the table cannot be read")
            return error_response(status, kind, str(error))
    return _response_to_failure(error, commit_sent=commit_sent)


def _response_to_failure(error: Exception, *, commit_sent: bool) -> JSONResponse:
    _LOG.error("%s: %s", type(error).__name__, _brief(error), exc_info=not isinstance(error, SQLAlchemyError | OSError))
    if isinstance(error, FileNotFoundError):
        return error_response(500, "InternalServerError", "the metadata file of the table is missing")
    if not isinstance(error, SQLAlchemyError | OSError):
        return error_response(500, "InternalServerError", "the service failed; its log says how")
    what = "database" if isinstance(error, SQLAlchemyError) else "object store"
    if commit_sent:
        return error_response(500, "CommitStateUnknownException", f"the {what} was lost while the change was committed")
    return error_response(503, "ServiceUnavailableException", f"the {what} does not answer")


def _brief(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return " ".join(str(cause).split())[:300]
