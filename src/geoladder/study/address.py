"""Where an archive lies: addresses a study or a user may write, as http(s) URLs.

A data set on the hub must name a fixed revision, for parts of two versions in one folder do not fit together. Costs
no import, since every study is checked with it.
"""

import re
from urllib.parse import urlsplit

from geoladder.errors import GeoladderError

HUB = "https://huggingface.co"
_HF = re.compile(r"^hf://datasets/(?P<owner>[\w.-]+)/(?P<name>[\w.-]+)(@(?P<revision>[\w.-]+))?/?$")


def resolve(url: str) -> str:
    """Folder of an archive as an http(s) URL without a slash at the end.

    `url` is `https://host/folder`, or `hf://datasets/owner/name@revision` for the Hugging Face hub. Raises
    GeoladderError for another scheme, or a hub data set whose revision is missing or moves.
    """
    if match := _HF.match(url):
        revision = match["revision"]
        if revision in (None, "main", "master", "HEAD"):
            raise GeoladderError(
                f"{url} names no fixed revision; its files may change while they are fetched. Write the commit: "
                f"hf://datasets/{match['owner']}/{match['name']}@<40 hexadecimal digits>"
            )
        return f"{HUB}/datasets/{match['owner']}/{match['name']}/resolve/{revision}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise GeoladderError(
            f"'{url}' is no archive to fetch; write https://host/folder (the folder that holds metadata.parquet) "
            "or hf://datasets/owner/name@revision"
        )
    return url.rstrip("/").removesuffix("/metadata.parquet")


def hub_listing(folder_url: str) -> str | None:
    """Address that lists the files of a resolved folder on the hub; None for other servers."""
    match = re.match(rf"^{re.escape(HUB)}/datasets/([^/]+/[^/]+)/resolve/([^/]+)$", folder_url)
    return f"{HUB}/api/datasets/{match[1]}/tree/{match[2]}" if match else None
