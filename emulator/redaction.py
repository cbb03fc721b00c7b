"""Replaces the names of projects and buckets in texts consistently, and finds possible secrets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

# `gs://bucket/…`, also with slashes escaped as JSON allows.
_GCS = re.compile(r"gs:(?P<slashes>(?:\\?/){2})(?P<bucket>[a-z0-9][a-z0-9._-]*)")
_PROJECT = re.compile(r"(?P<lead>\bprojects\\?/)(?P<project>[A-Za-z0-9][A-Za-z0-9:.-]*)")
_LONGEST_PREFIX = 2048
_SECRETS = {
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "an access token": re.compile(r"\bya29\.[\w-]{8,}"),
    "an API key": re.compile(r"\bAIza[\w-]{30,}"),
    "a refresh token": re.compile(r"\b1//0[\w-]{20,}"),
    "a signed URL": re.compile(r"(?i)[?&](?:x-goog-signature|signature)=[0-9a-z%+/=]{32,}"),
    "a service account": re.compile(r"[\w.-]+@[\w.-]+\.gserviceaccount\.com"),
    "a key's name": re.compile(r"\bkeyRings\\?/[\w-]+\\?/cryptoKeys\\?/[\w-]+"),
}


@dataclass
class Redaction:
    """The replacements of names.

    `prefixes` maps prefixes of gs:// names. Other buckets are numbered in the order in which they appear, and
    all projects become `project`, unless `keep_names` is set.
    """

    project: str
    prefixes: Mapping[str, str] = field(default_factory=dict)
    keep_names: bool = False
    texts: Mapping[str, str] = field(default_factory=dict)
    changes: dict[str, str] = field(default_factory=dict)

    def text(self, text: str) -> str:
        """The text with the names replaced; everything else is unchanged, to the byte."""
        for old, new in self.texts.items():
            text = text.replace(old, new)
        text = _GCS.sub(lambda found: self._uri(found, text), text)
        for old, new in self.prefixes.items():
            text = self._replace(text, old, new)
        return text if self.keep_names else _PROJECT.sub(self._project, text)

    def _replace(self, text: str, old: str, new: str) -> str:
        for spelling in (str, _escaped):
            if spelling(old) in text:
                self.changes[old] = new
                text = text.replace(spelling(old), spelling(new))
        return text

    def _uri(self, found: re.Match[str], text: str) -> str:
        here = text[found.start() : found.start() + _LONGEST_PREFIX].replace("\\/", "/")
        if self.keep_names or any(here.startswith(prefix) for prefix in self.prefixes):
            return found[0]
        return f"gs:{found['slashes']}{self._bucket(found['bucket'])}"

    def _bucket(self, bucket: str) -> str:
        old = f"gs://{bucket}"
        if old not in self.changes:
            numbered = sum(new.startswith("gs://recorded-") for new in self.changes.values())
            self.changes[old] = f"gs://recorded-{numbered + 1}"
        return self.changes[old].removeprefix("gs://")

    def _project(self, found: re.Match[str]) -> str:
        if found["project"] != self.project:
            self.changes[f"projects/{found['project']}"] = f"projects/{self.project}"
        return f"{found['lead']}{self.project}"


def secrets_in(text: str) -> Sequence[str]:
    """The possible secrets in a text, each with its line number."""
    return [
        f"{what} in line {text.count(chr(10), 0, found.start()) + 1}"
        for what, pattern in _SECRETS.items()
        if (found := pattern.search(text))
    ]


def origin_only(url: str) -> str:
    """A URL with `…` in place of everything behind its host and port, and of a user's name and password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}" + (
        "/…" if (parts.path, parts.query) not in (("", ""), ("/", "")) else ""
    )


def _escaped(text: str) -> str:
    return text.replace("/", "\\/")
