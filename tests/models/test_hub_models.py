"""SAM 2.1, SAM 3 and ViTMatte against transformers' own use of the same classes, with tiny random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mam_video.core.errors import DeviceError, UsageError, WeightsError
from mam_video.core.frames import State
from mam_video.core.geometry import Box
from mam_video.core.sections import MODEL_NAMES
from mam_video.core.settings import Settings
from mam_video.matting.pipeline import matte_frames
from mam_video.models.base import Embedding, MaskModel, MatteModel, ViewPrompt, matte_model_of
from mam_video.models.catalogue import BY_NAME, LISTINGS, MODELS, parse_model
from mam_video.models.registry import load_model
from mam_video.models.sam2 import squeezed_mask, stretched, stretched_mask
from mam_video.models.transfers import counted
from mam_video.prompts.prompt import Prompt
from tests.models.tiny_hub import SIDE, write_tiny

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install '.[transformers]'"
)

KINDS = {
    "sam2": "sam2.1-tiny",
    "sam2-video": "sam2.1-tiny-video",
    "sam3": "sam3",
    "sam3-video": "sam3-video",
    "vitmatte": "vitmatte-small",
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_tiny(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


def loaded(folders: dict[str, Path], kind: str) -> Any:
    """The half of a model that the tiny folder is of."""
    parts = parse_model(
        f"{KINDS[kind]}:{folders[kind]}" if kind != "vitmatte" else f"lite+{KINDS[kind]}:{folders[kind]}"
    )
    model: Any = load_model("+".join(each.text for each in parts if each is not None))
    return model.matte_model if kind == "vitmatte" else model.mask_model


def picture(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3), np.uint8)
    return np.ascontiguousarray(np.kron(small, np.ones((8, 8, 1), np.uint8))[: size[0], : size[1]])


def processor_of(kind: str) -> Any:
    size = {"height": SIDE, "width": SIDE}
    images = transformers.Sam3ImageProcessor if kind == "sam3" else transformers.Sam2ImageProcessor
    processor = transformers.Sam3TrackerProcessor if kind == "sam3" else transformers.Sam2Processor
    return processor(images(size=size), target_size=SIDE)


@pytest.mark.numeric
@pytest.mark.parametrize("kind", ["sam2", "sam3"])
@pytest.mark.parametrize("prompt", ["box", "points", "box and points"])
def test_masks_and_scores_of_a_square_picture_are_those_of_transformers(
    folders: dict[str, Path], kind: str, prompt: str
) -> None:
    model, image = loaded(folders, kind), picture((SIDE, SIDE))
    box = Box(20, 30, 90, 100) if "box" in prompt else None
    points = np.array([[50, 60], [10, 10]] if "points" in prompt else np.zeros((0, 2)), np.float32)
    labels = np.array([1, 0] if "points" in prompt else [], np.int64)

    ours = model.segment(model.embed([image]), 0, ViewPrompt(box, points, labels))

    given: dict[str, Any] = {}
    if box is not None:
        given["input_boxes"] = [[list(box.xyxy)]]
    if len(points):
        given |= {"input_points": [[points.tolist()]], "input_labels": [[labels.tolist()]]}
    inputs = processor_of(kind)(images=image, return_tensors="pt", **given)
    network = transformers.Sam3TrackerModel if kind == "sam3" else transformers.Sam2Model
    with torch.inference_mode():
        theirs = network.from_pretrained(folders[kind]).eval()(
            **{k: v for k, v in inputs.items() if k != "original_sizes"}
        )
    masks = theirs.pred_masks[0, 0].numpy()
    assert masks.std() > 0.01, "the random masks are flat: nothing is compared"
    np.testing.assert_allclose(ours.logits, masks, rtol=0, atol=1e-4 * np.abs(masks).max())
    np.testing.assert_allclose(ours.scores, theirs.iou_scores[0, 0].numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["sam2", "sam3"])
def test_a_crop_that_is_not_square_is_stretched_and_its_mask_squeezed_back(folders: dict[str, Path], kind: str) -> None:
    model, wide = loaded(folders, kind), picture((SIDE // 2, SIDE))
    low = model.segment(model.embed([wide]), 0, ViewPrompt(Box(20, 10, 90, 50)))
    high = model.segment(model.embed([stretched(wide, SIDE)]), 0, ViewPrompt(Box(20, 20, 90, 100)))
    for ours, square in zip(low.logits, high.logits, strict=True):
        np.testing.assert_array_equal(ours, squeezed_mask(square, (SIDE // 2, SIDE), SIDE))
    assert (low.logits[:, model.mask_size // 2 :] == -8).all(), "the padding is no background"


def test_a_mask_is_stretched_and_squeezed_to_the_right_place() -> None:
    """A subject in rows 8 to 16 of the upper half stands in rows 16 to 32 of the stretched square."""
    square = np.full((64, 64), -4.0, np.float32)
    square[16:32, 20:40] = 4
    padded = squeezed_mask(square, (512, 1024), 1024)
    rows, columns = np.nonzero(padded > 0)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (8, 16, 20, 40)
    back = stretched_mask(padded, (512, 1024), 1024)
    assert ((back > 0) != (square > 0)).mean() < 0.01


@pytest.mark.parametrize("kind", ["sam2", "sam3"])
def test_a_mask_prompt_changes_the_answer_and_a_batch_does_not(folders: dict[str, Path], kind: str) -> None:
    model = loaded(folders, kind)
    pictures = [picture((SIDE, SIDE), seed) for seed in range(2)]
    both = model.embed(pictures)
    prompt = ViewPrompt(Box(20, 30, 90, 100))
    plain = model.segment(both, 1, prompt)
    alone = model.segment(model.embed(pictures[1:]), 0, prompt)
    np.testing.assert_array_equal(plain.logits, alone.logits)
    guided = model.segment(
        both, 1, ViewPrompt(Box(20, 30, 90, 100), logits=-np.ones((model.mask_size,) * 2, np.float32))
    )
    assert np.abs(guided.logits - plain.logits).max() > 0


def frames(count: int, size: tuple[int, int] = (96, 160)) -> list[np.ndarray]:
    ground = picture((size[0], size[1] + count), 3)
    return [np.ascontiguousarray(ground[:, k : k + size[1]]) for k in range(count)]


@pytest.mark.parametrize("kind", ["sam2-video", "sam3-video"])
def test_a_video_session_equals_the_loop_of_transformers_and_forgets(folders: dict[str, Path], kind: str) -> None:
    """Forty frames, two subjects, one of them prompted again on frame 20: bit for bit, and bounded."""
    model, clip = loaded(folders, kind), frames(40)
    boxes = {0: [Box(20, 20, 60, 70), Box(90, 10, 150, 80)], 20: [Box(30, 10, 80, 60), None]}

    session, ours, held = model.session(2), [], []
    for k, image in enumerate(clip):
        prompts = [None if box is None else ViewPrompt(box) for box in boxes.get(k, [None, None])]
        ours.append(session.step(image, prompts))
        held.append(stored(session.state))

    network = model.network
    whole = type(session.state)(dtype=torch.float32)
    for k, image in enumerate(clip):
        added = []
        for subject, box in enumerate(boxes.get(k, [])):
            if box is not None:
                scale = np.array([SIDE / 160, SIDE / 96], np.float32)
                corners = (np.array(box.xyxy, np.float32).reshape(2, 2) * scale)[None, None]
                place = whole.obj_id_to_idx(subject)
                labels = torch.tensor([[[2, 3]]], dtype=torch.int32)
                whole.add_point_inputs(place, k, {"point_coords": torch.from_numpy(corners), "point_labels": labels})
                added.append(subject)
        whole.obj_with_new_inputs = added
        found = network(whole, frame=model.encoder.pixels([image]), frame_idx=k)
        np.testing.assert_array_equal(ours[k].logits, found.pred_masks[:, 0].numpy())
        np.testing.assert_array_equal(ours[k].presence, found.object_score_logits.sigmoid().numpy().ravel())
    assert len({masks.logits.tobytes() for masks in ours}) > 30, "the masks do not change from frame to frame"
    assert held[39] == held[32] == held[28], "the session grows"  # the prompt of frame 20 is five frames back by then
    assert stored(whole) > 5 * held[39], "nothing is forgotten: the comparison says nothing"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sam2-video", "sam3-video"])
def test_the_memory_of_a_video_session_is_flat_over_400_frames(folders: dict[str, Path], kind: str) -> None:
    model = loaded(folders, kind)
    session, sizes = model.session(1), []
    for k, image in enumerate(frames(400)):
        session.step(image, [ViewPrompt(Box(20, 20, 60, 70)) if k == 0 else None])
        sizes.append(stored(session.state))
    assert sizes[399] <= 1.05 * sizes[39]


def stored(state: Any) -> int:
    """Bytes of all tensors that a session holds."""
    total, waiting = 0, [vars(state), vars(state.cache)]
    while waiting:
        each = waiting.pop()
        if isinstance(each, torch.Tensor):
            total += each.numel() * each.element_size()
        elif isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list | tuple):
            waiting.extend(each)
    return total


def test_the_frames_prepared_for_a_session_are_those_of_transformers(folders: dict[str, Path]) -> None:
    model, image = loaded(folders, "sam2-video"), picture((SIDE, SIDE))
    theirs = processor_of("sam2")(images=image, return_tensors="pt")["pixel_values"]
    np.testing.assert_allclose(model.encoder.pixels([image]).numpy(), theirs.numpy(), rtol=0, atol=1e-6)


def test_a_video_model_refuses_one_picture(folders: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match=r"for one picture use sam2\.1-tiny"):
        loaded(folders, "sam2-video").embed([picture((64, 64))])


@pytest.mark.numeric
def test_vitmatte_is_that_of_transformers_where_it_is_unknown(folders: dict[str, Path]) -> None:
    model, image = loaded(folders, "vitmatte"), picture((90, 122))
    trimap = np.zeros((90, 122), np.uint8)
    trimap[20:70, 30:90], trimap[35:55, 45:75] = 128, 255
    ours = model.matte_trimap(image, trimap)
    network = transformers.VitMatteForImageMatting.from_pretrained(folders["vitmatte"]).eval()
    inputs = transformers.VitMatteImageProcessor()(images=image, trimaps=trimap, return_tensors="pt")
    with torch.inference_mode():
        theirs = network(**inputs).alphas[0, 0, :90, :122].numpy()
    unknown = trimap == 128
    assert theirs[unknown].std() > 0.01, "the random alpha is flat: nothing is compared"
    np.testing.assert_allclose(ours[unknown], theirs[unknown], rtol=0, atol=1e-5)
    assert (ours[trimap == 255] == 1).all() and (ours[trimap == 0] == 0).all()


def test_tiles_give_the_whole_and_show_no_seam(folders: dict[str, Path]) -> None:
    """With attention in windows alone, what a pixel sees ends within the overlap: tiles equal the whole there."""
    from mam_video.models.vitmatte import VitMatteModel

    network = transformers.VitMatteForImageMatting.from_pretrained(folders["vitmatte"]).eval()
    image, trimap = picture((128, 288)), np.full((128, 288), 128, np.uint8)
    whole = VitMatteModel("whole", network, "cpu", tile=320, overlap=64).matte_trimap(image, trimap)
    tiled = VitMatteModel("tiled", network, "cpu", tile=160, overlap=96).matte_trimap(image, trimap)
    assert whole.std() > 0.01
    steps = np.abs(np.diff(tiled, axis=1)).max(axis=0)
    usual = np.abs(np.diff(whole, axis=1)).max(axis=0)
    assert steps.max() < 1.25 * usual.max(), "a step between neighbours that the whole does not have"
    assert np.abs(tiled - whole).max() < 0.1 and np.abs(tiled - whole).mean() < 0.01


def test_tiles_without_unknown_pixels_are_not_run(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from mam_video.models.vitmatte import VitMatteModel

    network = transformers.VitMatteForImageMatting.from_pretrained(folders["vitmatte"]).eval()
    model = VitMatteModel("tiled", network, "cpu", tile=64, overlap=32)
    trimap = np.zeros((64, 512), np.uint8)
    trimap[20:40, 20:40] = 128
    runs: list[tuple[int, ...]] = []
    run = model._run
    monkeypatch.setattr(model, "_run", lambda rgb, part: (runs.append(part.shape), run(rgb, part))[1])
    model.matte_trimap(picture((64, 512)), trimap)
    assert runs == [(64, 64)] * len(runs) and 1 <= len(runs) <= 2


def test_the_trimap_spans_the_edge_and_grows_with_the_subject() -> None:
    from mam_video.models.vitmatte import TrimapSettings, trimap_of_mask

    def band(radius: float) -> tuple[np.ndarray, float]:
        y, x = np.mgrid[:256, :256]
        logits = (radius - np.hypot(x - 128, y - 128)).clip(-8, 8).astype(np.float32)
        trimap = trimap_of_mask(logits, (1024, 1024), TrimapSettings())
        return trimap, float((trimap[512] == 128).sum()) / 2

    trimap, wide = band(90)
    assert trimap[512, 512] == 255 and trimap[0, 0] == 0
    assert trimap[512, 512 + 360] == 128, "the edge itself is known"
    assert band(30)[1] < wide
    assert band(30)[1] >= 2 * 1.5 * 4, "narrower than the cells of the mask"
    assert (trimap_of_mask(np.full((64, 64), -5.0, np.float32), (50, 64), TrimapSettings()) == 0).all()


def test_pairs_find_with_one_and_matte_with_the_other(folders: dict[str, Path]) -> None:
    model: Any = load_model(f"sam2.1-tiny:{folders['sam2']}+vitmatte-small:{folders['vitmatte']}")
    assert isinstance(model.mask_model, MaskModel) and isinstance(matte_model_of(model), MatteModel)
    assert (model.view_size, model.mask_size) == (SIDE, model.mask_model.mask_size)
    assert len(model.weights) == 2 and all(len(digest) == 64 for digest in model.weights.values())
    embedding = model.embed([picture((SIDE, SIDE))])
    assert isinstance(embedding, Embedding)
    with pytest.raises(TypeError, match="matte_model"):
        model.matte(embedding, np.zeros((1, 8, 8), np.float32))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sam2.1-tiny:{vitmatte}", "is a folder of 'vitmatte'"),
        ("lite+vitmatte-small:{sam2}", "is a folder of 'sam2'"),
        ("sam2.1-tiny:{empty}", "is no folder with config.json"),
        ("sam2.1-tiny", "run `mam-video weights get sam2.1-tiny`"),
        ("sam3", "accept the SAM License on https://huggingface.co/facebook/sam3, then run"),
        ("vitmatte-small", "only mattes; name what finds the subject before it"),
        ("lite+sam3", "only finds masks"),
        ("sam2.1-tinny", "did you mean 'sam2.1-tiny'"),
    ],
)
def test_wrong_names_and_folders_are_refused_in_a_line(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    monkeypatch.setenv("MAM_VIDEO_WEIGHTS", str(tmp_path / "weights"))
    (tmp_path / "empty").mkdir()
    with pytest.raises((UsageError, WeightsError)) as refused:
        load_model(name.format(**{k: str(v) for k, v in folders.items()}, empty=tmp_path / "empty"))
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_a_damaged_folder_is_refused_in_a_line(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folders["sam2"] / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((folders["sam2"] / "model.safetensors").read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"cannot be loaded as sam2\.1-tiny") as refused:
        load_model(f"sam2.1-tiny:{tmp_path}")
    assert "\n" not in str(refused.value)


def test_too_little_memory_is_said_in_a_line(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(f"sam2.1-tiny:{folders['sam2']}")

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    monkeypatch.setattr(transformers.Sam2Model, "get_image_embeddings", full)
    with pytest.raises(DeviceError, match="not enough memory for one frame; close other programs") as refused:
        list(matte_frames(frames(2), Prompt(Box(30, 20, 90, 80)), model))
    assert "\n" not in str(refused.value)


def test_without_transformers_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mam_video.core.errors.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"sam2\.1-tiny needs transformers.*pip install 'mam-video\[transformers\]'"):
        load_model("sam2.1-tiny")


FINDERS = ["lite", "classic", "sam2", "sam2-video", "sam3", "sam3-video"]
MATTERS = ["lite", "classic", "none", "vitmatte"]


@pytest.mark.parametrize("finder", FINDERS)
def test_every_mask_model_runs_with_every_matte_model(folders: dict[str, Path], finder: str) -> None:
    """Through the whole loop: as many mattes as frames, with values in range."""
    clip = frames(3)
    for matter in MATTERS:
        name = "+".join(f"{KINDS[half]}:{folders[half]}" if half in KINDS else half for half in (finder, matter))
        settings = Settings().with_values({"model": {"name": name, "device": "cpu"}}, "test")
        prompt = Prompt(Box(30, 20, 90, 80))
        mattes = list(matte_frames(clip, prompt, None, settings))
        assert [matted.frame.index for matted in mattes] == list(range(3)), name
        assert mattes[0].record.state in (State.PROMPTED, State.LOST), name
        for matted in mattes:
            assert matted.alpha.shape == (96, 160) and matted.alpha.dtype == np.float32, name
            assert matted.alpha.min() >= 0 and matted.alpha.max() <= 1 and np.isfinite(matted.alpha).all(), name


def test_masks_from_files_are_matted_by_any_matte_model(folders: dict[str, Path]) -> None:
    model = load_model(f"masks+vitmatte-small:{folders['vitmatte']}")
    with pytest.raises(UsageError, match="finds nothing itself: give --masks"):
        list(matte_frames(frames(2), Prompt(Box(30, 20, 90, 80)), model))


@pytest.mark.parametrize("kind", ["sam2-video", "sam3-video"])
def test_several_subjects_share_one_session(folders: dict[str, Path], kind: str) -> None:
    name = f"{KINDS[kind]}:{folders[kind]}+none"
    prompts = {"left": Prompt(Box(20, 20, 60, 70)), "right": Prompt(Box(90, 10, 150, 80))}
    mattes = list(matte_frames(frames(3), prompts, name))
    assert [part.record.subject for part in mattes[2].parts] == ["left", "right"]
    assert max(float(matted.alpha.max()) for matted in mattes) <= 1


def test_what_can_be_named_alone_is_what_completion_offers() -> None:
    assert set(MODEL_NAMES) == {name for name in MODELS if not BY_NAME[name].hidden}
    assert {each.extra for each in LISTINGS if each.hub} == {"transformers"}
    assert all(each.licence for each in LISTINGS)


def test_copies_to_the_device_and_back_are_counted(folders: dict[str, Path]) -> None:
    """One upload of a batch's pictures and of each part of a prompt; masks and scores come back at once."""

    def moved(work: Callable[[], object]) -> tuple[dict[str, int], dict[str, int]]:
        before = counted()
        work()
        ups, downs = (
            {k: n - old.get(k, 0) for k, n in new.items()} for old, new in zip(before, counted(), strict=True)
        )
        return {k: n for k, n in ups.items() if n}, {k: n for k, n in downs.items() if n}

    image, box = picture((SIDE, SIDE)), ViewPrompt(Box(20, 30, 90, 100))
    model = loaded(folders, "sam2")
    embedding = model.embed([image])
    assert moved(lambda: model.embed([image, image])) == ({"pictures": 1}, {})
    assert moved(lambda: model.segment(embedding, 0, box)) == ({"prompt": 1}, {"candidates": 1})
    session = loaded(folders, "sam2-video").session(1)
    assert moved(lambda: session.step(image, [box])) == ({"pictures": 1, "prompt": 2}, {"candidates": 1})
    assert moved(lambda: session.step(image, [None])) == ({"pictures": 1}, {"candidates": 1})
    trimap = np.full((SIDE, SIDE), 128, np.uint8)
    mattes = loaded(folders, "vitmatte")
    assert moved(lambda: mattes.matte_trimap(image, trimap)) == ({"pictures": 1}, {"alpha": 1})
