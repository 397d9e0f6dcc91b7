"""The script in Extras: faces restored, colorized or filled, all of them or those that the user picks."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from PIL import Image

import codeformer_core as core

from . import films, host, images, panel, picker, restore, settings, work
from .options import FAILED_KEY, NAME, NAMES, Wanted

logger = logging.getLogger(__name__)

ELEM_ID = "extras_codeformer_pack"
TASK_KEY = f"{NAME} task"


def elem_id(name: str) -> str:
    return f"{ELEM_ID}_{name}"


class Extras(host.ExtrasScript):
    name = NAME
    # After Upscale (1000), before the host's own restorers (2000 and 3000 are theirs; one of them may follow).
    order = 2900

    # The batch whose folder was looked through already.
    _batch = ""

    def ui(self) -> dict[str, Any]:
        with host.accordion(label=NAME, elem_id=elem_id("enabled")) as switch:
            task = gr.Radio(
                list(work.TASKS),
                value=work.RESTORE,
                label="Task",
                elem_id=elem_id("task"),
                tooltip="colorize: only the colours are new; redrawn: the network's whole face. inpaint: what is pure "
                "white, or white in the mask, is filled. auto takes the best model for the task.",
            )
            controls = panel.build(elem_id)
            mask = gr.Image(
                label="Mask: white is filled", type="pil", image_mode="L", elem_id=elem_id("mask_image"), visible=False
            )
            task.change(lambda chosen: gr.update(visible=chosen == work.INPAINT), inputs=[task], outputs=[mask])
            picks = picker.build(elem_id)
            beside = gr.Checkbox(
                False,
                label="Also keep a picture of before and after",
                elem_id=elem_id("before_after"),
                visible=not host.IS_SDNEXT,
            )
        return {
            "enabled": switch,
            "task": task,
            **controls.controls,
            "mask_image": mask,
            "picks": picks,
            "before_after": beside,
        }

    def process(
        self,
        pp: Any,
        enabled: bool | None = None,
        task: str | None = None,
        mask_image: Image.Image | None = None,
        picks: str | None = None,
        before_after: bool | None = None,
        **values: Any,
    ) -> None:
        """Restores the image of `pp`, which keeps its transparency; or its film, where the host hands one over.

        All are None in the requests of hosts that can't reach scripts of extensions: nothing is done then. SD.Next's
        name some values, and leave the others None.
        Raises what keeps every image from being restored; of a batch's other faults the image is told in the log and
        in its own text, and the batch goes on.
        """
        if not enabled:
            return
        film = getattr(pp, "video", None)
        if film:
            restored, told = films.restore(Path(film), _wanted(values))
            pp.video = str(restored)
            pp.info.update(told)
            return
        name, (job, count) = host.image_name(), host.batch_job()
        is_batch = name is not None or count > 1
        if name is not None and os.path.dirname(name) and job != self._batch:
            self._batch = job
            _tell_of_unreadable(name)
        before = pp.image
        try:
            wanted = _wanted(values)
            picked = picks if picks and not is_batch else ""
            image_1HWC = images.to_tensor(before)
            if task in (None, work.RESTORE):
                done = work.restore(image_1HWC, wanted, picks=picked)
            else:
                done = work.edit(image_1HWC, wanted, str(task), mask_1HW=_mask(mask_image), picks=picked)
        except (core.WeightsError, core.DownloadError):
            raise
        except Exception as error:
            if not is_batch:
                raise
            host.log_error(f"{NAME}: {name or 'an image'} was left as it is: {error}")
            pp.info[FAILED_KEY] = restore.reason(error)
            return
        pp.image = images.to_image(done.image_1HWC)
        pp.info.update(done.infotext)
        if task not in (None, work.RESTORE):
            pp.info[TASK_KEY] = task
        if before_after:
            both = images.side_by_side(before, pp.image)
            pp.extra_images.append(pp.create_copy(both, nametags=["before-after"], disable_processing=True))


def _wanted(values: dict[str, Any]) -> Wanted:
    """Raises ValueError naming what is wrong."""
    if values[panel.USE_SETTINGS] is None:
        named = {name: value for name, value in values.items() if value is not None and name in NAMES}
        return settings.wanted().with_values(named)
    return panel.wanted_from([values[each] for each in panel.ORDER])


def _mask(mask_image: Image.Image | None) -> torch.Tensor | None:
    if mask_image is None:
        return None
    return torch.from_numpy(np.array(mask_image.convert("L"))).float().div_(255)[None]


def _tell_of_unreadable(file: str) -> None:
    """The host leaves such files of a folder out without a word."""
    for name, problem in host.unreadable_beside(file):
        logger.warning("%s: %s is left out of the batch, as it can't be read (%s)", NAME, name, problem)
