"""What must be redacted, and texts made of it and of what stands around it."""

from __future__ import annotations

from hypothesis import strategies as st

SECRETS = {
    "ann@example.com": "[email]",
    "4111 1111 1111 1111": "[card]",
    "123-45-6789": "[national_id]",
    "+1 (415) 555-2671": "[phone]",
    "93.184.216.34": "[ip]",
    "2001:db8:85a3::8a2e:370:7334": "[ip]",
    "sk-proj-abcDEF0123456789abcdef": "[secret]",
    "ghp_0123456789abcdef0123456789abcdef0123": "[secret]",
    "AKIAIOSFODNN7EXAMPLE": "[secret]",
    "psk_0a1b2c3d_0123456789abcdef0123": "[secret]",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln": "[secret]",
    "Bearer 0123456789abcdef": "[secret]",
    "password=hunter2": "password=[secret]",
    '"api_key": "a\\"b"': '"api_key": "[secret]"',
    "Authorization: Basic YW5uOmh1bnRlcjI=": "Authorization: [secret]",
    "postgres://ann:hunter2@db/x": "postgres://[secret]@db/x",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----": "[secret]",
}
MARKS = "password|token|: |=|\"|'|\\|\n| |-|{|}|[|]|://|@|.|12|4111111111111111|+1|x|é|\u200b"
PIECES = st.sampled_from([*SECRETS, "[email]", "[secret]", *MARKS.split("|")])
TEXTS = st.lists(PIECES | st.text(max_size=5), max_size=12).map("".join)
