"""Where the weights are in a checkpoint: wrappers that trainers put around them, and prefixes that all keys share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from torch import Tensor

from ..runtime.foreign import is_mapping

# Keys under which trainers put the weights, best first; a running average (EMA) of them is better still.
_WRAPPERS = ("params", "state_dict", "model_state_dict", "model")
# What torch puts before every key of a network that was saved inside DataParallel or a compiled module.
_TORCH_PREFIXES = ("module.", "_orig_mod.")
# Wrappers inside wrappers, and names before names; a pickle can also hold itself.
_DEEPEST = 4
# Places, and beginnings of keys, that a message lists.
_SHOWN = 4


def state_dicts_in(loaded: Mapping[object, object]) -> dict[str, dict[str, Tensor]]:
    """Every dictionary in a checkpoint that holds tensors by name, the likeliest weights first.

    Place ("" for the top, "state_dict.net_g") -> its tensors, detached, without torch's own prefixes.
    """
    found = dict(_found(loaded, (), set()))
    return {".".join(names): found[names] for names in sorted(found, key=_rank)}


def inner_state_dicts(state_dicts: Mapping[str, dict[str, Tensor]]) -> Iterator[dict[str, dict[str, Tensor]]]:
    """The state dicts themselves; then by the first name of their keys (net_g.conv.weight -> net_g: conv.weight); then
    by the first two; and so on."""
    level = dict(state_dicts)
    for _ in range(_DEEPEST):
        yield level
        level = {
            f"{place}.{name}".removeprefix("."): inner
            for place, state in level.items()
            for name, inner in _by_first_name(state).items()
        }


def places_of(state_dicts: Mapping[str, Mapping[str, Tensor]]) -> str:
    """How many tensors lie where: "3 at the top (conv, norm), 2 in optimizer (step)"."""
    return _shortened(
        [
            f"{len(state)} {f'in {place}' if place else 'at the top'} ({_shortened(_first_names(state))})"
            for place, state in state_dicts.items()
        ]
    )


def _found(
    loaded: Mapping[object, object], names: tuple[str, ...], seen: set[int]
) -> Iterator[tuple[tuple[str, ...], dict[str, Tensor]]]:
    seen.add(id(loaded))
    tensors = {
        key: value.detach() for key, value in loaded.items() if isinstance(key, str) and isinstance(value, Tensor)
    }
    if tensors:
        yield names, _without_torch_prefixes(tensors)
    for key, value in loaded.items():
        if isinstance(key, str) and is_mapping(value) and id(value) not in seen and len(names) < _DEEPEST:
            yield from _found(value, (*names, key), seen)


def _rank(names: tuple[str, ...]) -> int:
    """How likely the weights lie there, 0 best."""
    if any("ema" in name.lower().replace("-", "_").split("_") for name in names):
        return 0
    for rank, wrapper in enumerate(_WRAPPERS, start=1):
        if wrapper in names:
            return rank
    at_the_top = not names
    return len(_WRAPPERS) + (1 if at_the_top else 2)


def _without_torch_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for _ in range(_DEEPEST):
        prefix = next((each for each in _TORCH_PREFIXES if all(key.startswith(each) for key in state)), None)
        if prefix is None:
            break
        state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
    return state


def _by_first_name(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    inner: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        first, dot, rest = key.partition(".")
        if dot:
            inner.setdefault(first, {})[rest] = tensor
    return inner


def _first_names(state: Mapping[str, Tensor]) -> list[str]:
    return list(dict.fromkeys(key.partition(".")[0] for key in state))


def _shortened(texts: list[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (", ..." if len(texts) > _SHOWN else "")
