"""Names of accelerators as people write them, taken apart: family, memory, form factor, network cards of a host.

"NVIDIA A100-SXM4-80GB", "8x A100 80G (SXM)" and "A100-80GB (Selene, 8xHDR200)" are one device. Words that say nothing
of the device (a site, a maker, a count) are passed over.
"""

import re
from dataclasses import dataclass

FAMILY = re.compile(
    r"(?<![a-z])(gh\d{3}|g?b\d{3}|[ahlpv]\d{2,3}(?:g|s(?!xm))?|[lt]4|tpu ?v5 ?lite(?:pod)?"
    r"|rtx ?(?:pro ?)?a?\d{4}(?: ?ti| ?super| ?ada)*|mi ?\d{3}[axz]?|tpu ?v?\d+[a-z]?|v\d+(?:lite(?:pod)?|e|p|x)"
    r"|trn\d|trainium ?\d|gaudi ?\d|ironwood|trillium|rubin)(?!\d)"
)
_COUNT = re.compile(r"(?<![a-z0-9])\d+ ?[x×*] ?(?=[a-z])")  # 8x, as in 8xH100
_MEMORY = re.compile(r"(?<![a-z0-9.])(\d{2,3}) ?gi?b?\b(?! ?(?:/s|s\b|hdr|ndr|edr|roce|ib|eth|infini))")
_FORMS = (("nvl", r"nvl(?!ink)(?!\d)"), ("pcie", r"pci-?e?\b"), ("sxm", r"sxm|hgx|dgx"), ("500w", r"500 ?w\b|hbm2e"))
_POWER = re.compile(r"(?<![a-z0-9.])(\d{2,4}) ?w(?:atts?)?\b")
_CARDS = re.compile(
    r"(\d+) ?[x×*] ?(?:(hdr|ndr|edr|xdr|opa|roce|ib|efa|cx\d?|gbe|ethernet|infiniband)[ -]?)?(\d{2,4})"
    r" ?(g(?:b(?:ps|e|it)?)?(?:/s|bps)?)?(?![0-9a-z])"
)
_SYNONYMS = (
    (re.compile(r"^v5 ?lite(?:pod)?|^tpu ?v5 ?lite(?:pod)?"), "tpuv5e"),
    (re.compile(r"^tpu ?v?(?=\d)|^v(?=\d+[epx]$)"), "tpuv"),
    (re.compile(r"^ironwood$|^tpuv7x?$"), "tpuv7x"),
    (re.compile(r"^trillium$"), "tpuv6e"),
    (re.compile(r"^trn ?"), "trainium"),
)


@dataclass(frozen=True)
class NameParts:
    """What a name says. Blank or None where it does not."""

    family: str
    """Without spaces, in lower case: "h100", "tpuv5e"."""
    memory_gb: tuple[int, ...]
    """Numbers that may be the memory of one device."""
    form: str
    """sxm, pcie, nvl or 500w."""
    host_network_gb_per_s: float | None
    """Of all network cards of one host together, in each direction."""
    power_watts: float | None = None
    """Of one device."""


def name_parts(text: str) -> NameParts:
    """Take a name apart."""
    plain = " ".join(re.sub(r"[-_,;()\[\]{}/+]+", " ", text.casefold()).split())
    found = FAMILY.search(_COUNT.sub("", plain))
    return NameParts(
        family=_known_as(found[0]) if found else "",
        memory_gb=tuple(int(each) for each in _MEMORY.findall(plain)),
        form=next((form for form, pattern in _FORMS if re.search(pattern, plain)), ""),
        host_network_gb_per_s=_network(plain),
        power_watts=next((float(each) for each in _POWER.findall(plain)), None),
    )


def _known_as(family: str) -> str:
    plain = family.replace(" ", "")
    for pattern, name in _SYNONYMS:
        plain = pattern.sub(name, plain)
    return plain


def _network(plain: str) -> float | None:
    """From "4x200G HDR", "8xHDR200" or "4xOPA100", Gb/s each."""
    for count, kind, speed, unit in _CARDS.findall(plain):
        if kind or unit:
            return int(count) * int(speed) / 8
    return None
