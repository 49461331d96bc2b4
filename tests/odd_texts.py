"""Pieces of which odd texts are made: settings, controls, emoji, scripts, markup, paths."""

from __future__ import annotations

PIECES = (
    *(
        "猫",
        "4枚",
        "縦",
        "--",
        "--steps",
        "--seed 9",
        "seed",
        "取消",
        "999999999999999999",
        ",",
        "、",
    ),
    *("\0", "\x1b[31m", "\u202e", "\u200d", "\ud800", "\udfff", "\ufeff", "\n", "\t", "\u2028"),
    *(
        "🐈",
        "👩‍👩‍👧‍👦",
        "🇯🇵",
        "שלום",
        "مرحبا",
        "<script>alert(1)</script>",
        "</body>",
        "'; DROP TABLE jobs;--",
    ),
    *("{0}", "{user}", "%s", "%n", "../../etc/passwd", "\\", "(((", "))", ":-1.5", "<lora:x:1>"),
    *("１２３", "٣枚", "²枚", "十枚", "a" * 300, "e\u0301" * 50, "\U000e0041", "\uffff", "ﷺ" * 40),
    *("赤い猫", "ｓｅｅｄ　７", "――steps", "--steps=abc", "--help", "--ckpt /etc/passwd", "-rf /"),
    *("file:///etc/passwd", "C:\\\\x", "${HOME}", "$(id)", "`id`", "%(x)s", "{{7*7}}", "@bot"),
    *("猫" * 400, "𝕬𝖇𝖈", "\u200b", "\u2066\u2069", "\r\n", "\x7f", "<|endoftext|>", "\ufdd0", "，"),
)
