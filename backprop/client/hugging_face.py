"""A saved model, sent to a repository of the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

from backprop.errors import InputError, RemoteError
from backprop.optional import load
from backprop.progress import progress

__all__ = ["push"]


def push(
    folder: Path,
    repo_id: str,
    *,
    private: bool | None,
    token: str | None,
    revision: str | None,
    message: str,
    create_pr: bool,
) -> str:
    """Return the address of the commit that has the files of ``folder``; see ``push_to_hub``.

    Raises:
        InputError: ``repo_id`` is not valid, or there is no token.
        RemoteError: the hub could not be reached, or refused.
    """
    # The transport's own base error; which package it comes from depends on the version.
    transport_error = load("huggingface_hub.errors:HTTPError")
    hub = HfApi(token=token, library_name="backprop")
    try:
        with progress(f"Sending {repo_id} to {hub.endpoint}"):
            hub.create_repo(repo_id, private=private, exist_ok=True)
            commit = hub.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                revision=revision,
                commit_message=message,
                create_pr=create_pr,
                # What an older version had, and this one has not, would fail the list of files.
                delete_patterns="*",
            )
    except HFValidationError as error:
        raise InputError(f"{repo_id!r} is no repository; write 'owner/name' ({error}).") from error
    except LocalTokenNotFoundError as error:
        raise InputError(
            "Hugging Face wants a token; pass token=..., set HF_TOKEN, or run: hf auth login"
        ) from error
    except HfHubHTTPError as error:
        raise RemoteError(
            f"Hugging Face refused {repo_id}: {error}", status=error.response.status_code
        ) from error
    except (ConnectionError, TimeoutError, OfflineModeIsEnabled, transport_error) as error:
        raise RemoteError(f"Hugging Face can't be reached for {repo_id}: {error}") from error
    return str(commit.commit_url)
