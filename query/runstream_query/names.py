"""Names for runs that were given none: always the same for the same run id."""

from __future__ import annotations

import hashlib
from typing import Final

_HOW_WORDS: Final = """
agile amber azure bold brave breezy bright brisk bronze calm candid clear clever copper coral cosmic
crisp curious dapper daring deft eager early easy fair fleet fond frank fresh gentle glad golden
grand green happy hardy honest humble icy jolly keen kind light lively loyal lucid lucky lunar
mellow merry mild modest neat nimble noble olive patient plucky polar proud quick quiet rapid ready
rosy royal rustic sage sandy sharp shiny silent silver simple smooth snowy solar solid spry steady
still stout sunny sure swift tidal tidy topaz tranquil true upbeat vivid warm wise witty young zesty
"""
_WHAT_WORDS: Final = """
acorn alder ash aspen badger bay beacon beech birch bison brook canyon cedar cliff cloud clover
comet condor coral cove crane creek cypress dale delta dove dune eagle egret elm ember falcon fern
finch fjord flint forest fox garnet geyser glade glen grove gull harbor hare hawk hazel heath heron
hill holly ibis iris island ivy jade jay juniper kestrel lagoon lake larch lark laurel lichen lily
linden lynx maple marsh martin meadow mesa moss oak ocean orchid osprey otter owl pebble pine plover
pond poppy prairie quail quartz raven reed reef ridge river robin rowan sable sedge shore spruce
star stone stork summit swan thistle tide trout tulip valley violet walnut wave willow wren yarrow
yew
"""
_HOW: Final = tuple(_HOW_WORDS.split())
_WHAT: Final = tuple(_WHAT_WORDS.split())


def display_name(run: str) -> str:
    """A name like `brave-fern` for a run id."""
    number = int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "big")
    return f"{_HOW[number % len(_HOW)]}-{_WHAT[number // len(_HOW) % len(_WHAT)]}"
