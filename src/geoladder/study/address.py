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
    GeoladderError for another scheme, a user name or password, or a hub data set whose revision is missing or moves.
    """
    if match := _HF.match(url):
        revision = match["revision"]
        if revision in (None, "main", "master", "HEAD"):
            raise GeoladderError(
                f"{url} names no fixed revision; its files may change while they are fetched. Write the commit: "
                f"hf://datasets/{match['owner']}/{match['name']}@<40 hexadecimal digits>"
            )
        return f"{HUB}/datasets/{match['owner']}/{match['name']}/resolve/{revision}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.query
    except ValueError:
        usable = False
    if usable and "@" in parts.netloc:
        raise GeoladderError(
            f"'{without_secrets(url)}' was given with a user name or password, which logs and results would show; "
            "only public archives are fetched: fetch this one by other means, and give its folder as `path`"
        )
    if not usable:
        raise GeoladderError(
            f"'{without_secrets(url)}' is no archive to fetch; write https://host/folder (the folder that holds "
            "metadata.parquet) or hf://datasets/owner/name@revision"
        )
    return url.rstrip("/").removesuffix("/metadata.parquet")


def without_secrets(text: str) -> str:
    """Text in which addresses show no user name, password or query: these may grant access."""
    return re.sub(r"\?[^\s'\"]*", "?...", re.sub(r"//[^/\s'\"]*@", "//", text))


def hub_listing(folder_url: str) -> str | None:
    """Address that lists the files of a resolved folder on the hub; None for other servers."""
    match = re.match(rf"^{re.escape(HUB)}/datasets/([^/]+/[^/]+)/resolve/([^/]+)$", folder_url)
    return f"{HUB}/api/datasets/{match[1]}/tree/{match[2]}" if match else None
