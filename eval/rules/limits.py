"""How many units are given rules, how long these may be together, and how much text they are for."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What rules may cost; no number of units means all."""

    sampled: int | None = 24
    """units of each site, drawn by the seed among all of them, that are given rules and intruders"""
    units: int | None = 1500
    """units that are given rules for explained loss, the most important ones of all sites"""
    tokens: int = 20_000
    """tokens of half B that explained loss reads in every arm: of each document the beginning"""
    total: int = 65_536
    """bits of all rules together at an equal total, 64 for each of 1,024 units: the same for every
    system of every run, however many units it has"""


DRAWN = Limits()
ALL_UNITS = Limits(sampled=None, units=None)
