"""A picture taken apart, so that a test can measure what is drawn."""

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass

from markupsafe import Markup

SVG = "{http://www.w3.org/2000/svg}"
NUMBER = r"(-?[\d.]+)"


@dataclass(frozen=True)
class Box:
    """A filled rectangle and what hovering shows."""

    left: float
    right: float
    top: float
    bottom: float
    title: str
    style: str

    @property
    def width(self) -> float:
        return self.right - self.left


def parsed(svg: Markup | str) -> ET.Element:
    return ET.fromstring(str(svg).replace("<svg viewBox", '<svg xmlns="http://www.w3.org/2000/svg" viewBox', 1))


def boxes(svg: Markup) -> list[Box]:
    """In order of drawing."""
    found = []
    for path in parsed(svg).iter(f"{SVG}path"):
        match = re.fullmatch(rf"M{NUMBER},{NUMBER} H{NUMBER} V{NUMBER} H{NUMBER} Z", path.attrib["d"])
        if match:
            left, top, right, bottom, _ = map(float, match.groups())
            title = path.find(f"{SVG}title")
            found.append(
                Box(left, right, top, bottom, (title.text or "") if title is not None else "", path.attrib["style"])
            )
    return found


def titled(svg: Markup) -> list[Box]:
    """Those that stand for a value."""
    return [box for box in boxes(svg) if box.title]


def words(svg: Markup) -> list[str]:
    return [text.text or "" for text in parsed(svg).iter(f"{SVG}text")]


def dots(svg: Markup) -> list[tuple[float, float, str]]:
    """Centre and what hovering shows, of those that stand for a value."""
    found = []
    for circle in parsed(svg).iter(f"{SVG}circle"):
        title = circle.find(f"{SVG}title")
        if title is not None:
            found.append((float(circle.attrib["cx"]), float(circle.attrib["cy"]), title.text or ""))
    return found


def inside_the_frame(svg: Markup) -> bool:
    """Whether every point of a path, every circle and the anchor of every text lies within the picture."""
    root = parsed(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    pairs = [pair for path in root.iter(f"{SVG}path") for pair in re.findall(rf"{NUMBER},{NUMBER}", path.attrib["d"])]
    pairs += [(circle.attrib["cx"], circle.attrib["cy"]) for circle in root.iter(f"{SVG}circle")]
    pairs += [(text.attrib["x"], text.attrib["y"]) for text in root.iter(f"{SVG}text")]
    return bool(pairs) and all(0 <= float(x) <= width and 0 <= float(y) <= height for x, y in pairs)
