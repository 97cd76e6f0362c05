"""What personal data and secrets look like: patterns for texts. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address
from typing import Literal

Place = Literal["text", "id", "name"]


def luhn_valid(digits: str) -> bool:
    """Whether a string of digits passes the check of ISO/IEC 7812-1 (payment cards).

    >>> luhn_valid("4111111111111111"), luhn_valid("4111111111111112")
    (True, False)
    """
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


@dataclass(frozen=True, slots=True)
class Pattern:
    """A kind of data that is found by its form.

    Attributes:
        name: what stands in its place, in square brackets.
        regex: what it looks like; mind its worst case, payloads are long and a match holds the
            interpreter lock.
        hint: what a text must contain for the regex to be tried; cheaper than the regex. Keep it to
            what RE2 knows too, as whole columns are searched with it.
        replace: turns a match into its replacement; None replaces the whole match.
        marks: characters of which every match contains one; empty when that is not known.
        words: in Python one of these is looked for instead of the hint, in small letters and without
            `-` and `_`: a search for plain words is ten times as fast.
        places: where it is looked for. `text` is what people and programs write freely; `id` are
            ids of users and sessions; `name` are labels, in which a number is no telephone number.
    """

    name: str
    regex: re.Pattern[str]
    hint: re.Pattern[str]
    replace: Callable[[re.Match[str]], str] | None = None
    marks: str = ""
    words: tuple[str, ...] = ()
    places: frozenset[Place] = frozenset({"text"})

    def suspects(self, text: str) -> bool:
        """Whether the regex must be tried."""
        if not self.words:
            return bool(self.hint.search(text))
        plain = text.casefold().replace("_", "").replace("-", "")
        return any([word in plain for word in self.words])  # noqa: C419  a list is faster here

    def apply(self, text: str) -> str:
        """The text without this kind of data."""
        if not self.suspects(text):
            return text
        return self.regex.sub(self.replace or f"[{self.name}]", text)


_GROUP = re.compile(r"\d+")
_ISSUER = re.compile(r"[3-6]|2[2-7]")  # first digits that card issuers use


def _is_card(digits: str) -> bool:
    return 13 <= len(digits) <= 19 and bool(_ISSUER.match(digits)) and luhn_valid(digits)


def _hide_card(match: re.Match[str]) -> str:
    """Replace the card within a run of digit groups; other groups (a date, a code) stay."""
    run = match.group()
    groups = list(_GROUP.finditer(run))
    for first, start in enumerate(groups):
        digits = ""
        for end in groups[first:]:
            digits += end.group()
            if _is_card(digits):
                tail = run[end.end() :]
                # What is left may hold a second card.
                rest = _CARD_RUN.sub(_hide_card, tail)
                return f"{run[: start.start()]}[card]{rest}"
            if len(digits) > 19:
                break
    return run


_CARD_RUN = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,120}(?!\d)")


def _hide_ip(match: re.Match[str]) -> str:
    found = match.group()
    if ":" in found:
        try:
            return "[ip]" if IPv6Address(found) else found
        except AddressValueError:
            return found
    return found if found.endswith(".0.0.0") else "[ip]"  # versions: Chrome/126.0.0.0


def _hide_assigned(match: re.Match[str]) -> str:
    """Hide the value of what is assigned, and keep its name."""
    head = match["head"]
    before = match["quote"] or match["escaped"] or ""
    after = match["closing"] or match["end"] or ""
    found = match.group()
    if is_placeholder(found[len(head) + len(before) : len(found) - len(after)]):
        return found
    return f"{head}{before}[secret]{after}"


def is_placeholder(value: str) -> bool:
    """Whether a value was replaced before, and perhaps cut short since (`[sec…`)."""
    start = value.removesuffix("…")
    return value in _PLACEHOLDERS or (
        start != value and any(whole.startswith(start) for whole in _PLACEHOLDERS)
    )


_PLACEHOLDERS = ("[secret]", "[redacted]")

EMAIL = Pattern(
    "email",
    # Possessive, and begun at the start of a run only: linear on whatever text.
    re.compile(r"(?<![\w.%+'-])[\w.%+'-]++@[\w-]++(?:\.[\w-]++)++"),
    re.compile("@"),
    marks="@",
    places=frozenset({"text", "id", "name"}),
)
CARD = Pattern("card", _CARD_RUN, re.compile(r"\d(?:[ -]?\d){12}"), _hide_card)
US_SSN = Pattern(
    "national_id",
    re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}([ -])(?!00)\d{2}\1(?!0000)\d{4}(?![\d-])"),
    re.compile(r"\d{3}[ -]\d{2}[ -]\d{4}"),
)
PHONE = Pattern(
    "phone",
    re.compile(
        r"(?<![\w+])\+\d(?:[ .()-]{0,2}\d){7,14}(?!\d)"
        r"|(?<![\w.-])(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])"
    ),
    re.compile(r"\+\d|\d{3}(?:\) ?|[ .-])\d{3}[ .-]\d{4}"),
)
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
# Addresses within a site say which machine failed and nothing of a person, so they stay.
_WITHIN = r"(?:0|10|127|169\.254|192\.168|172\.(?:1[6-9]|2[0-9]|3[01]))\."
IP = Pattern(
    "ip",
    re.compile(
        rf"(?<![\w.])(?<![A-Za-z]/)(?!{_WITHIN}){_OCTET}(?:\.{_OCTET}){{3}}(?!\w)(?!\.\d)"
        r"|(?<![\w:.])[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:])"
    ),
    re.compile(r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[23][0-9A-Fa-f]{3}:"),
    _hide_ip,
    marks=".:",
    places=frozenset({"text", "id"}),
)
_ASSIGNED = (
    r"(?:pass(?:word|wd|phrase)|(?:(?:api|access|private|client|signing|encryption|auth)[_-]?)"
    r"(?:key|secret|token)|(?:refresh|id|session|bearer|csrf)[_-]?token|secret(?:[_-]?key)?"
    r"|authorization|credentials?)"
)
# password=..., "api_key": "...", Authorization: Bearer ..., and \"...\" within JSON text
ASSIGNED = Pattern(
    "secret",
    re.compile(
        rf"(?P<head>(?i:{_ASSIGNED})(?:\\*[\"'])?\s{{0,3}}[:=]\s{{0,3}})(?:"
        r"(?P<quote>[\"'])(?:(?!(?P=quote))[^\\\r\n]|\\.)*+(?P<closing>(?P=quote))?"
        r"|(?P<escaped>\\+[\"'])[^\"'\\\r\n]*+(?P<end>\\+[\"'])?"
        r"|\[[a-z]+\]"
        r"|(?:(?i:bearer|basic|digest|token)\s{1,3})?"
        r"[^\s\"',;&\[\]{}()<>\\][^\s\"',;&\[\]{}()<>]*+)"
    ),
    re.compile(r"(?i:pass(?:word|wd|phrase)|key|secret|token|authorization|credential)"),
    _hide_assigned,
    words=(
        "password", "passwd", "passphrase", "secret", "authorization", "credential",
        *(f"{of}{what}" for of in ("api", "access", "private", "client", "signing", "encryption", "auth")
          for what in ("key", "token")),
        *(f"{of}token" for of in ("refresh", "id", "session", "bearer", "csrf")),
    ),
    places=frozenset({"text", "name"}),
)  # fmt: skip
TOKEN = Pattern(
    "secret",
    re.compile(
        r"(?<=://)[^\s/@:\[\]]{1,256}+:[^\s/@\[\]]{1,256}+(?=@)"
        r"|-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]{0,40}KEY-----|\Z)"
        r"|(?<![\w-])(?:"
        r"(?:[bB]earer|[bB]asic)\s{1,3}(?=[\w.~+/-]{0,60}[0-9]|[\w.~+/-]{20})[\w.~+/-]{8,}+=*+"
        r"|sk-(?=[\w-]{0,80}[A-Z])(?=[\w-]{0,80}[0-9])[\w-]{20,}+"
        r"|(?:[srp]k_(?:live|test)|gh[oprsu]|github_pat|psk|hf)_\w{16,}+"
        r"|(?:glpat-|AIza|xox[abeoprs]-)[\w-]{16,}+"
        r"|A[KS]IA[0-9A-Z]{16}(?!\w)"
        r"|eyJ[\w-]{8,}+\.eyJ[\w-]{8,}+\.[\w-]*+"
        r")"
    ),
    re.compile(
        r"://|-----BEGIN|[srp]k[-_]|gh[oprsu]_|github_pat_|hf_|glpat-|xox[abeoprs]-"
        r"|A[KS]IA|AIza|eyJ|[bB]earer|[bB]asic"
    ),
    places=frozenset({"text", "name"}),
)
# Secrets first, for they contain what looks like the others, and what is named as one before what looks
# like one; cards and national ids before telephone numbers, which look like parts of them.
DEFAULT_PATTERNS = (ASSIGNED, TOKEN, EMAIL, IP, CARD, US_SSN, PHONE)
