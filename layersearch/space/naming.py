"""Names of configurations, as all of the program's output writes them.

config_text((64, 32))               # "[64, 32]", in text, messages and tables
short_name(((64, 32), (16, 64)))    # "[64, 32] → [16, 64]", in pictures, which need short names
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from layersearch.space.configurations import (
    Configuration,
    Layers,
    Variant,
    Widths,
    decoder_dims,
    encoder_dims,
    layers_of,
    options_of,
)
from layersearch.words import level_text

NAMED_LAYERS = 6  # largest number of layers that a short name lists
LONGEST_NAME = 34  # largest number of characters in the short name of an encoder and a decoder
LEVELS: dict[Any, str] = {"layer": "LN", "none": "–"}  # values of a variant's options in its short name


def config_text(config: Configuration) -> str:
    """Returns a name like `[64, 32]`, or `[64, 32] -> [16, 64]` for an encoder and a decoder.

    A variant's options follow: `[64, 32] (dropout 0.3, normalization none)`.
    """
    layers = layers_of(config)
    halves = layers if isinstance(layers[0], tuple) else (layers,)
    text = " -> ".join(f"[{', '.join(map(str, widths))}]" for widths in halves)
    return text + options_text(config)


def options_text(config: Configuration) -> str:
    """Returns ` (dropout 0.3, normalization none)` for a variant; an empty text for any other configuration."""
    options = ", ".join(f"{name} {level_text(value)}" for name, value in options_of(config).items())
    return f" ({options})" if options else ""


def short_options_note(config: Configuration) -> str | None:
    """Explains the options in `short_name`; returns None if they need no explanation."""
    names = options_of(config)
    if len(names) < 2:
        return None
    levels = " (LN: LayerNorm, –: none)" if names.keys() & {"normalization", "input_normalization"} else ""
    return f"Names: layers, then {' / '.join(names)}{levels}"


def name_of(entry: Mapping[str, Any]) -> str:
    """Returns `config_text` for an entry of the results that has a `config` and perhaps `options`."""
    layers = tuple(tuple(part) if isinstance(part, list) else part for part in entry["config"])
    return config_text(Variant(layers, tuple((entry.get("options") or {}).items())))


def short_name(config: Configuration) -> str:
    """Returns a name for pictures: `[64, 32]`; if there are many layers, only the first ones and the last.

    An encoder and a decoder give `[64] → [16, 64]`. If that is too long, spaces are left out, then the layers in the
    middle. A variant with one option gives `[64, 32] (dropout 0.1)`. With several options only their values follow,
    `[64, 32] 0.1/LN/–`, which `short_options_note` explains.
    """
    if isinstance(config, Variant) and len(config.options) == 1:
        return _short_layers(config.layers) + options_text(config)
    if isinstance(config, Variant):
        values = (LEVELS.get(value, level_text(value)).replace("e-0", "e-") for _, value in config.options)
        return f"{_short_layers(config.layers)} {'/'.join(values)}"
    encoder, decoder = encoder_dims(config), decoder_dims(config)
    if config == encoder:
        return config_text(encoder) if len(encoder) <= NAMED_LAYERS else f"{_ends(encoder)} ({len(encoder)} layers)"
    full = f"{config_text(encoder)} → {config_text(decoder)}"
    for name in (full, full.replace(" ", "")):
        if len(name) <= LONGEST_NAME:
            return name
    return f"{_ends(encoder, 1)} → {_ends(decoder, 1)} ({len(encoder)} + {len(decoder)} layers)"


def name_in_words(config: Configuration) -> str:
    """Returns a name for titles: `short_name` of the layers and all options, `[64] (dropout 0.1, weight_decay 0)`."""
    return short_name(layers_of(config)) + options_text(config)


def _short_layers(layers: Layers) -> str:
    """Returns `short_name` of layers, even shorter for encoder and decoder, as options follow: `[64,32]→[16,64]`."""
    name = short_name(layers)
    if layers == encoder_dims(layers):
        return name
    tight = name.replace(" ", "")
    ends = "→".join(f"[{half[0]}…{half[-1]}]" for half in (encoder_dims(layers), decoder_dims(layers)))
    return tight if len(tight) <= LONGEST_NAME // 2 else ends


def _ends(widths: Widths, first: int = 3) -> str:
    if len(widths) <= first + 1:
        return config_text(widths)
    return f"[{', '.join(map(str, widths[:first]))}, …, {widths[-1]}]"


def hidden_layers(config: Configuration) -> int:
    """Returns the number of hidden layers in encoder and decoder together."""
    return len(encoder_dims(config)) + len(decoder_dims(config))


def config_entry(config: Configuration) -> dict[str, Any]:
    """Returns what identifies a configuration in the results: its hidden layers and, for a variant, its options."""
    options = {"options": options_of(config)} if isinstance(config, Variant) else {}
    return {"config": layers_of(config), **options}
