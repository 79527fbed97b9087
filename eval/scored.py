"""Which sites of a model are scored, and which vectors their layers read."""

from collections.abc import Mapping

from pellucid.models import UnitSite

INPUTS = {"mlp": "mlp_in", "attention": "attn_in"}
"""The site of a block that shows what the layer of a kind reads."""


def scored(sites: Mapping[str, UnitSite]) -> dict[str, UnitSite]:
    """The sites whose units a filling claims to be its interpretable parts.

    Units of feed-forward layers, always: neurons are what all others are compared with. Attention's
    and the head's where a unit has one activation per token (codes, concepts, the strengths of
    senses; an edge, or a sense's weight, has one for every pair of tokens). A stream's channels
    where the stream declares that something is exactly true of them.
    """
    return {name: site for name, site in sites.items() if _claims(site) and not site.pairs}


def on_pairs(sites: Mapping[str, UnitSite]) -> list[str]:
    """The sites of which something exact is declared, but whose units act on pairs of tokens."""
    return [n for n, site in sites.items() if site.pairs and site.exactness != "none"]


def _claims(site: UnitSite) -> bool:
    if site.kind == "stream":
        return site.exactness != "none"
    return site.kind in ("mlp", "attention", "head")


def read_by(site: UnitSite, sites: Mapping[str, UnitSite]) -> str | None:
    """Name of the site that shows the vectors which a site's layer reads; None where none does.

    The head reads the last stream, shown before its final norm.
    """
    if site.kind == "head":
        streams = [name for name, other in sites.items() if other.kind == "stream"]
        return streams[-1] if streams else None
    name = f"blocks.{site.layer}.{INPUTS.get(site.kind)}"
    return name if name in sites else None
