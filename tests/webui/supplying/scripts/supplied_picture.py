"""For tests only: hands the host a picture where its diffusion would begin, so that everything after it is the host's.

The picture is the file that CODEFORMER_TEST_PICTURE names. Nothing of a checkpoint is needed.
"""

import gc
import os
from contextlib import suppress
from unittest.mock import MagicMock, patch

import numpy as np
import psutil
import torch
from modules import processing, script_callbacks, scripts, sd_models, sd_samplers, shared
from PIL import Image


def without_its_model(init):
    """What img2img prepares for its mask and overlay, up to where it would need a checkpoint."""

    def begin(*given, **named):
        with suppress(Exception), patch.object(sd_samplers, "create_sampler"):
            init(*given, **named)

    return begin


def put_stand_in(*given):
    """In the place of a checkpoint, which the host would try to load at the first request."""
    model = MagicMock()
    model.sd_model_hash = "0123456789"
    model.sd_checkpoint_info.name_for_extra = "none"
    if sd_models.checkpoints_list:
        model.sd_checkpoint_info = sd_models.select_checkpoint()
    model.sd_model_checkpoint = model.sd_checkpoint_info.filename
    model.lowvram = model.is_sdxl = False
    model.applied_token_merged_ratio = 0
    model.fix_dimensions = lambda width, height: (width, height)
    model.forge_objects.vae.latent_channels = 4
    model.model_config.ztsnr = False
    data = sd_models.model_data
    data.sd_model = model
    # Classic and reForge load it anew for every request.
    data.was_loaded_at_least_once = True
    sd_models.reload_model_weights = lambda *given, **named: model
    if hasattr(data, "forge_loading_parameters"):
        data.forge_hash = str(data.forge_loading_parameters)
        # Forge looks for the infotext's checkpoint in this name when it pastes.
        shared.opts.data["sd_model_checkpoint"] = shared.opts.sd_model_checkpoint or "none"


def tell_memory():
    """Bytes of all tensors that are alive, and of the process."""
    gc.collect()
    tensors = [each for each in gc.get_objects() if type(each) in (torch.Tensor, torch.nn.Parameter)]
    held = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
    return {"tensors": sum(held.values()), "resident": psutil.Process().memory_info().rss}


def serve_memory(demo, app):
    app.add_api_route("/supplied/memory", tell_memory, methods=["GET"])


script_callbacks.on_app_started(put_stand_in)
script_callbacks.on_app_started(serve_memory)


class SuppliedPicture(scripts.Script):
    def title(self):
        return "Supplied picture"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def before_process(self, p, *args):
        put_stand_in()

    def process(self, p, *args):
        image = Image.open(os.environ["CODEFORMER_TEST_PICTURE"]).convert("RGB").resize((p.width, p.height))
        photo_3HW = torch.from_numpy(np.asarray(image).copy()).float().permute(2, 0, 1) / 127.5 - 1
        shared.state.job_count = -1
        p.setup_conds = lambda: None
        p.init = without_its_model(p.init) if hasattr(p, "init_images") else lambda *given, **named: None
        p.sample = lambda **named: processing.DecodedSamples([photo_3HW.clone() for _ in range(p.batch_size)])
