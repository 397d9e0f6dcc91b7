"""The panel of txt2img and img2img: restores what was generated, image by image.

An exception in a hook is swallowed by the host, which then claims what was not done: so nothing is raised here, and
the infotext is written after the work.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from . import axis, host, images, panel, restore, work
from .options import AFTER_OVERLAY, BEFORE_OVERLAY, COUNT_KEY, DEFAULTS, FAILED_KEY, KEYS, NAME, Wanted, infotext_of

OWN_KEYS = (*KEYS.values(), COUNT_KEY, FAILED_KEY)
# What an infotext says of the host's own switch.
HOST_KEY = "Face restoration"
ORDER = (*panel.ORDER, "order")


class Panel(host.Script):
    def title(self) -> str:
        return NAME

    def show(self, is_img2img: bool) -> Any:
        return host.ALWAYS_VISIBLE

    def ui(self, is_img2img: bool) -> list[Any]:
        with host.accordion(label=NAME, elem_id=self.elem_id("enabled")) as switch:
            controls = panel.build(self.elem_id)
            order = gr.Radio(
                [BEFORE_OVERLAY, AFTER_OVERLAY],
                value=DEFAULTS.order,
                label="When",
                elem_id=self.elem_id("order"),
                visible=is_img2img and host.HAS_AFTER_OVERLAY,
                tooltip="Inpainting lays the rest of the picture over the result. after: its faces are restored, too.",
            )
        self.infotext_fields = [*controls.infotext_fields(switch), (order, KEYS["order"])]
        self.paste_field_names = list(KEYS.values())
        return [switch, *controls.components, order]

    def process(self, p: Any, *args: Any) -> None:
        """The history of prompts is written before anything is made; it tells what is wanted."""
        overrides = axis.values_of(p)
        restorer = restore.chosen() if _restores(p) else None
        if restorer is not None:
            restorer.overrides = overrides
        wanted = self._wanted(p, args)
        if isinstance(wanted, Wanted):
            p.extra_generation_params.update(infotext_of(wanted))

    def postprocess_batch(self, p: Any, *args: Any, **kwargs: Any) -> None:
        _forget(p)

    def postprocess_image(self, p: Any, pp: Any, *args: Any) -> None:
        _forget(p)
        restorer = restore.chosen() if _restores(p) else None
        if restorer is not None:
            _tell(p, restorer.take_infotext())
            if FAILED_KEY in p.extra_generation_params:
                p.extra_generation_params[HOST_KEY] = None
        self._restore(p, pp, args, BEFORE_OVERLAY)

    def postprocess_image_after_composite(self, p: Any, pp: Any, *args: Any) -> None:
        self._restore(p, pp, args, AFTER_OVERLAY)

    def postprocess(self, p: Any, processed: Any, *args: Any) -> None:
        for each in host.face_restorers() or []:
            if hasattr(each, "take_infotext"):
                each.overrides = {}

    def _restore(self, p: Any, pp: Any, args: tuple[Any, ...], order: str) -> None:
        wanted = self._wanted(p, args)
        if isinstance(wanted, ValueError):
            if order == BEFORE_OVERLAY:
                _fail(p, wanted)
            return
        if wanted is None or wanted.order != order:
            return
        try:
            done = work.restore(images.to_tensor(pp.image), wanted)
        except Exception as error:  # noqa: BLE001  # whatever it is, the picture is kept
            host.log_error(f"{NAME}: the faces were not restored")
            _fail(p, error)
            return
        pp.image = images.to_image(done.image_1HWC)
        _tell(p, done.infotext)

    def _wanted(self, p: Any, args: tuple[Any, ...]) -> Wanted | ValueError | None:
        """What is to be done, why it can't be, or None for nothing.

        args: the values of the controls; a request may name its values in one object in the place of the switch.
        """
        overrides = axis.values_of(p)
        try:
            if isinstance(args[0], dict):
                if not args[0].get("enabled", True):
                    return None
                wanted = panel.wanted_by_name(args[0], {"order": DEFAULTS.order})
            elif args[0] or (overrides and not (_restores(p) and restore.is_chosen())):
                # An axis without the switch means the switch, too.
                wanted = panel.wanted_from(args[1:], ORDER)
            else:
                return None
            if wanted.order == AFTER_OVERLAY and not host.HAS_AFTER_OVERLAY:
                return ValueError(f"order: this host has no place {AFTER_OVERLAY}; choose {BEFORE_OVERLAY!r}")
            return wanted.with_values(overrides)
        except ValueError as error:
            return error


def _restores(p: Any) -> bool:
    """The host's own "Restore faces", which SD.Next has not."""
    return bool(getattr(p, "restore_faces", False))


def _forget(p: Any) -> None:
    """Drops what was told of the image before this one."""
    for key in (*OWN_KEYS, HOST_KEY):
        p.extra_generation_params.pop(key, None)


def _tell(p: Any, infotext: dict[str, Any]) -> None:
    p.extra_generation_params.update(infotext)


def _fail(p: Any, error: Exception) -> None:
    text = restore.reason(error)
    p.extra_generation_params[FAILED_KEY] = text
    p.comment(f"{NAME}: {text}")
