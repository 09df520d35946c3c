"""SAM 2.1 and SAM 3's tracker as video models, through transformers: they follow subjects with their own memory.

transformers keeps every frame, and every frame's masks, for the whole clip. Here a session keeps what the next frame
can read, and no more: the prompted frames' memories, the last few memories and the last few object pointers. The masks
are the same bit for bit, and memory does not grow with the clip.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mam_video.core.errors import UsageError
from mam_video.models.base import Candidates, Embedding, VideoMasks, ViewPrompt
from mam_video.models.sam2 import Sam2Base, download_maps
from mam_video.models.transfers import upload

_LARGE = ("pred_masks", "high_res_masks")  # of a stored frame, what no later frame reads
_UNSEEN = -8.0  # logit of a subject that was not prompted yet


class Sam2VideoModel(Sam2Base):
    """A video model, loaded and on its device. It is a `VideoModel`; as a mask model it only has sizes."""

    in_memory = True
    shared_crop = False
    video = True

    def session(self, subjects: int) -> Session:
        """Begin a clip with that many subjects."""
        return Session(self, subjects)

    def embed(self, pictures: Sequence[np.ndarray]) -> Embedding:
        raise UsageError(self._only_clips())

    def segment(self, embedding: Embedding, index: int, prompt: ViewPrompt) -> Candidates:
        raise UsageError(self._only_clips())

    def _only_clips(self) -> str:
        return (
            f"model {self.name} follows subjects through a clip; for one picture use {self.name.replace('-video', '')}"
        )


class Session:
    """The memory of one clip: of each subject the prompted frames, and what the last frames left behind."""

    def __init__(self, model: Sam2VideoModel, subjects: int) -> None:
        self._model, self._subjects = model, subjects
        self._prompted: list[int] = []  # subjects in the order of their first prompts, as the network counts them
        self._frame = 0  # frames so far; the network's own index
        self.state = _new_session(model)

    @torch.inference_mode()
    def step(self, picture: np.ndarray, prompts: Sequence[ViewPrompt | np.ndarray | None]) -> VideoMasks:
        """Find every subject in the next frame; see `VideoSession`.

        A subject without a prompt so far is nowhere.
        Raises: UsageError, no subject has a prompt yet.
        """
        if len(prompts) != self._subjects:
            raise ValueError(f"{len(prompts)} prompts for {self._subjects} subjects")
        pixels = self._model.encoder.pixels([picture])
        self._add_prompts(prompts, (picture.shape[0], picture.shape[1]))
        if not self._prompted:
            raise UsageError(f"model {self._model.name}: no subject is prompted on the first frame")
        with self._model.encoder.in_precision():
            found = self._model.network(self.state, frame=pixels, frame_idx=self._frame)
        m = self._model.mask_size
        logits = np.full((self._subjects, m, m), _UNSEEN, np.float32)
        presence = np.zeros(self._subjects, np.float32)
        masks, scores = download_maps(found.pred_masks, found.object_score_logits.float().sigmoid())
        for place, subject in enumerate(self._prompted):
            logits[subject], presence[subject] = masks[place, 0], float(scores[place].item())
        self._forget()
        self._frame += 1
        return VideoMasks(logits, presence)

    def _add_prompts(self, prompts: Sequence[ViewPrompt | np.ndarray | None], size: tuple[int, int]) -> None:
        added = []
        for subject, prompt in enumerate(prompts):
            if prompt is None:
                continue
            if subject not in self._prompted:
                self._prompted.append(subject)
            place = self.state.obj_id_to_idx(subject)
            if isinstance(prompt, np.ndarray):
                self.state.add_mask_inputs(place, self._frame, self._mask_input(prompt))
            else:
                self.state.add_point_inputs(place, self._frame, self._point_input(prompt, size))
            added.append(subject)
        self.state.obj_with_new_inputs = added

    def _mask_input(self, mask: np.ndarray) -> torch.Tensor:
        """(1, 1, side, side) float32, 0 or 1, of a mask (H, W) bool, reduced with antialias as transformers does."""
        side = self._model.encoder.side
        whole = upload(mask.astype(np.float32)[None, None], self._model.device, "prompt")
        small = torch.nn.functional.interpolate(
            whole, size=(side, side), align_corners=False, mode="bilinear", antialias=True
        )
        return (small >= 0.5).float()

    def _point_input(self, prompt: ViewPrompt, size: tuple[int, int]) -> dict[str, torch.Tensor]:
        """Points of the stretched square; a box is two points labelled 2 and 3, and comes first."""
        scale = np.array([self._model.encoder.side / size[1], self._model.encoder.side / size[0]], np.float32)
        points, labels = prompt.points.astype(np.float32), prompt.labels.astype(np.int64)
        if prompt.box is not None:
            points = np.concatenate([np.array(prompt.box.xyxy, np.float32).reshape(2, 2), points])
            labels = np.concatenate([np.array([2, 3]), labels])
        return {
            "point_coords": upload((points * scale)[None, None], self._model.device, "prompt"),
            "point_labels": upload(labels.astype(np.int32)[None, None], self._model.device, "prompt"),
        }

    def _forget(self) -> None:
        """Drop what no later frame reads."""
        config, state = self._model.network.config, self.state
        reach = max(int(config.num_maskmem), int(config.max_object_pointers_in_encoder))
        state.processed_frames.clear()
        for place, stored in state.output_dict_per_obj.items():
            tracked = stored["non_cond_frame_outputs"]
            for index in [k for k in tracked if k <= self._frame - reach]:
                del tracked[index]
            for frames in stored.values():
                for outputs in frames.values():
                    for name in _LARGE:
                        outputs.pop(name, None)
            for index, outputs in tracked.items():
                if index <= self._frame - int(config.num_maskmem):  # only its pointer is read
                    outputs.pop("maskmem_features", None)
                    outputs.pop("maskmem_pos_enc", None)
            state.frames_tracked_per_obj[place].clear()
            state.point_inputs_per_obj[place].clear()
            state.mask_inputs_per_obj[place].clear()


def _new_session(model: Sam2VideoModel) -> Any:
    """Make transformers' own session, which lies beside the network's class."""
    kind = type(model.network)
    made = getattr(importlib.import_module(kind.__module__), kind.__name__.replace("Model", "InferenceSession"))
    place = model.device
    return made(inference_device=place, inference_state_device=place, video_storage_device=place, dtype=torch.float32)
