"""Colours of report and pictures. Pages name them as CSS variables and so follow the reader into dark mode."""

LIGHT = {
    "ink": "#16202b",
    "soft": "#5b6875",
    "line": "#dde3e9",
    "page": "#f6f8fa",
    "card": "#fff",
    "c0": "#2563a8",
    "c1": "#c2571a",
    "c2": "#2f8a4e",
    "c3": "#8a4fb0",
    "c4": "#b0892f",
}
DARK = {
    "ink": "#e6ebf0",
    "soft": "#97a4b1",
    "line": "#2c3640",
    "page": "#11161b",
    "card": "#1a2128",
    "c0": "#6ea8e6",
    "c1": "#f09a63",
    "c2": "#6cc78c",
    "c3": "#c08fe0",
    "c4": "#dcbb6a",
}
