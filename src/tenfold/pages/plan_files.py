"""A plan's page and pictures as files: plan.html, and each picture as SVG and PNG."""

import re
from importlib.util import find_spec
from pathlib import Path

from markupsafe import Markup

from tenfold.core import InputError, write_bytes, write_text
from tenfold.pages.plan import Plan, write_plan
from tenfold.pages.plan_page import plan_figures, plan_page
from tenfold.pages.style import LIGHT, template_environment

PAGE = "plan.html"
ZOOM = 2.0
"""Pixels of a PNG for each unit of its SVG."""
NO_RENDERER = "PNG pictures need resvg-py: pip install 'tenfold[pictures]'"
NO_FONT = "PNG pictures need a font and none is installed; install one (Debian: apt install fonts-dejavu-core)"


def write_page(plan: Plan, to: Path | None) -> list[str]:
    """Write page, pictures and plan.json below `to`, if given; the lines say what was written."""
    if to is None:
        return []
    png = find_spec("resvg_py") is not None
    paths = [*write_pictures(plan, to, png=png), to / "plan.json"]
    write_plan(plan, paths[-1])  # in a campaign's directory its report shows it
    return [f"wrote {', '.join(str(path) for path in paths)}", *([] if png else [f"no PNGs: {NO_RENDERER}"])]


def write_pictures(plan: Plan, directory: Path, *, png: bool = True) -> list[Path]:
    """Write the page and its pictures into `directory`, which is made; returns what was written.

    Raises InputError when PNGs are wanted and their renderer is missing, or there is no font; then nothing is written.
    Raises TenfoldError when the disk refuses.
    """
    alone = {figure.name: standalone(figure.svg) for figure in plan_figures(plan)}
    images = {f"{name}.png": png_bytes(svg) for name, svg in alone.items()} if png else {}
    texts = {PAGE: plan_page(plan), **{f"{name}.svg": svg for name, svg in alone.items()}}
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory}: cannot be made ({error.strerror}); choose another directory") from None
    for name, text in texts.items():
        write_text(directory / name, text)
    for name, image in images.items():
        write_bytes(directory / name, image)
    return [directory / name for name in (*texts, *images)]


def standalone(svg: Markup) -> str:
    """An inline picture as a file of its own: with its namespace, size, style, white ground and fixed colours.

    Programs that draw SVG outside of a browser know no CSS variables.
    """
    size = re.match(r'<svg viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    if size is None:
        raise ValueError("not a picture of this package")
    style = template_environment().get_template("standalone.css.jinja").render()
    ground = '<rect width="100%" height="100%" fill="var(--card)"/>'
    head, body = str(svg).split(">", 1)
    tag = head.replace("<svg ", f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[1]}" height="{size[2]}" ', 1)
    return _fixed(f"{tag}><style>{style}</style>{ground}{body}\n")


def _fixed(svg: str) -> str:
    """Variables replaced by the light colours."""
    return re.sub(r"var\(--(\w+)\)", lambda found: LIGHT[found[1]], svg)


def png_bytes(svg: str) -> bytes:
    """A standalone picture as PNG. Raises InputError, in one line with the remedy, without renderer or font."""
    try:
        import resvg_py  # an extra: only who wants PNGs needs it
    except ImportError:
        raise InputError(NO_RENDERER) from None
    image = bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=ZOOM))
    if image == bytes(resvg_py.svg_to_bytes(svg_string=_without_words(svg), zoom=ZOOM)):
        raise InputError(NO_FONT)
    return image


def _without_words(svg: str) -> str:
    """What is drawn where there is no font: every picture has words, so it differs from the picture itself."""
    return re.sub(r"<text .*?</text>", "", svg, flags=re.DOTALL)
