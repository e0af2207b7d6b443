"""What the made-up trees are made of: kinds of images, the judges that look at each, and what they may find."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Flaw:
    """Something that a judge may find wrong, and what to ask for in the next prompt so that it does not come back."""

    subcategory: str
    detail: str
    reasoning: str
    remedy: str


@dataclass(frozen=True)
class JudgeSheet:
    """A judge: its question, its share in the rate, the points it looks at, and what it may say."""

    name: str
    description: str
    category: str
    weight: float
    points: tuple[str, ...]
    praise: str
    strength: str
    flaws: tuple[Flaw, ...]


@dataclass(frozen=True)
class Gate:
    """A check that stops an image whatever the judges say."""

    module: str
    reason: str


@dataclass(frozen=True)
class ModelSheet:
    """A model as Runflow's catalogue shows it."""

    slug: str
    name: str
    description: str
    version: str
    category_code: str
    max_resolution: str


@dataclass(frozen=True)
class Task:
    """A kind of image that is sent in for evaluation."""

    task_type: str
    descriptions: tuple[str, ...]
    prompts: tuple[str, ...]
    instructions: tuple[str | None, ...]
    attributes: dict[str, Any]
    judges: tuple[JudgeSheet, ...]
    gates: tuple[Gate, ...]
    model: ModelSheet
    reference_kinds: tuple[str, ...] = ()


PROMPT_ADHERENCE = JudgeSheet(
    "prompt_adherence",
    "Does the image follow the generation prompt and the task description?",
    "prompt_adherence",
    0.25,
    ("subject", "setting", "mood"),
    "Subject, setting and mood are all present as requested.",
    "Follows the prompt closely, down to the setting",
    (
        Flaw(
            "missing_element",
            "The background that the prompt asks for is missing.",
            "PHASE 1: listed what the prompt asks for. PHASE 2: found the subject, not the background.\n\nThe setting is a "
            "plain gradient instead.",
            "include the requested background in full",
        ),
        Flaw(
            "wrong_mood",
            "The light is cold where the prompt asks for a warm evening.",
            "The colour temperature is near that of an overcast noon, which contradicts the prompt.",
            "warm evening light",
        ),
    ),
)
ARTIFACTS = JudgeSheet(
    "artifact_detection",
    "Are there rendering artifacts such as warping or merged edges?",
    "technical_quality",
    0.15,
    ("warping", "edge_merge", "banding"),
    "No warping or banding at full size; edges are clean.",
    "No visible rendering artifacts at full size",
    (
        Flaw(
            "edge_merge",
            "Two edges merge near the lower left corner.",
            "At full size the edges run into one another over some forty pixels.",
            "clean, separate edges",
        ),
        Flaw(
            "banding",
            "The background shows colour banding.",
            "Eight distinct steps are visible in what should be a smooth gradient.",
            "smooth background gradient without banding",
        ),
    ),
)
LIGHTING = JudgeSheet(
    "lighting_and_background",
    "Is lighting consistent and the background clean?",
    "technical_quality",
    0.15,
    ("lighting_consistency", "background_clean"),
    "The key light is consistent on all surfaces, and the background is clean.",
    "Even, flattering light with soft shadows",
    (
        Flaw(
            "halo",
            "A bright halo surrounds the subject.",
            "A rim of about three pixels is brighter than both subject and background.",
            "no halo around the subject",
        ),
    ),
)
ANATOMY = JudgeSheet(
    "anatomy",
    "Are faces, hands and body proportions plausible?",
    "anatomy",
    0.15,
    ("face", "hands", "proportions"),
    "One subject, natural neck and shoulder proportions, no odd fingers.",
    "Natural proportions of face and shoulders",
    (
        Flaw(
            "hands",
            "The right hand has six fingers.",
            "Counted the fingers of both hands; the right one has one too many.",
            "anatomically correct hands with five fingers",
        ),
    ),
)
IDENTITY = JudgeSheet(
    "identity_preservation",
    "Is the person recognisably the same as in the reference image?",
    "identity",
    0.3,
    ("face_shape", "eye_spacing", "skin_tone"),
    "Face shape, eye spacing and skin tone agree with the reference.",
    "The person is recognisable at once",
    (
        Flaw(
            "face_shape_drift",
            "The jawline is visibly narrower than in the reference photo.",
            "PHASE 1: located both faces. PHASE 2: compared jawline and nose bridge. PHASE 3: the jawline differs beyond "
            "what pose and lens explain.",
            "keep the exact facial proportions of the reference photo",
        ),
        Flaw(
            "feature_spacing",
            "The eyes sit further apart than in the reference photo.",
            "The distance between the pupils is 8% wider, measured against the width of the face.",
            "same eye spacing as in the reference photo",
        ),
    ),
)
PRODUCT_FIDELITY = JudgeSheet(
    "product_fidelity",
    "Are shape, colour and label of the product those of the reference?",
    "product",
    0.35,
    ("shape", "colour", "label"),
    "Outline, colour and label agree with the reference from every visible side.",
    "The product is true to its reference",
    (
        Flaw(
            "label_text",
            "The label reads “Café Lumiére” in place of “Café Lumière”.",
            "Read the label letter by letter; the accent on the first e of the last syllable leans the wrong way.",
            "label text exactly as on the reference",
        ),
        Flaw(
            "colour_shift",
            "The cap is teal; the reference shows navy.",
            "The mean colour of the cap is far from the reference, under the same light.",
            "navy cap as on the reference",
        ),
    ),
)
TYPOGRAPHY = JudgeSheet(
    "typography",
    "Is all text in the image readable and spelled right?",
    "text",
    0.3,
    ("spelling", "legibility", "contrast"),
    "Headline and call to action are spelled right and easy to read.",
    "Crisp, readable headline",
    (
        Flaw(
            "spelling",
            "The headline is misspelled: “SUMER SALE”.",
            "The prompt asks for SUMMER SALE; the second M is missing.",
            "headline text spelled exactly SUMMER SALE",
        ),
        Flaw(
            "low_contrast",
            "The call to action is hard to read against the sky.",
            "White on pale blue, a contrast of about 1.6 to 1.",
            "call to action on a dark panel",
        ),
    ),
)
COMPOSITION = JudgeSheet(
    "composition",
    "Does the picture lead the eye to what matters?",
    "composition",
    0.15,
    ("balance", "focus"),
    "The subject sits on a third, and the lines lead to it.",
    "Balanced composition with a clear focus",
    (
        Flaw(
            "cropped_subject",
            "The subject is cut off at the right edge.",
            "About a tenth of the subject lies outside the frame.",
            "whole subject inside the frame",
        ),
    ),
)

TASKS = (
    Task(
        "headshot",
        ("LinkedIn-ready corporate headshot", "Team page portrait, business casual"),
        ("studio lighting, neutral background", "soft window light, blurred office background, navy blazer"),
        ("Prioritise likeness to the reference photo.", None),
        {"style": "corporate", "aspect_ratio": "4:5"},
        (PROMPT_ADHERENCE, IDENTITY, ANATOMY, LIGHTING, ARTIFACTS),
        (Gate("identity_similarity", "Face similarity to the reference image is below the required minimum."),),
        ModelSheet(
            "headshots",
            "AI Headshots",
            "Studio-style professional headshots from one portrait.",
            "2.3",
            "image-to-image",
            "2048x2048",
        ),
        ("source_face",),
    ),
    Task(
        "product_photography",
        ("Packshot on white for a shop's catalogue", "Lifestyle shot on a kitchen counter"),
        ("glass bottle on white, soft shadow, 85mm", "coffee tin “Café Lumière” on an oak counter, morning light"),
        ("The label must be readable.", None),
        {"aspect_ratio": "1:1"},
        (PROMPT_ADHERENCE, PRODUCT_FIDELITY, LIGHTING, ARTIFACTS),
        (
            Gate("product_match", "The product differs from the reference in shape or colour."),
            Gate("resolution", "The shorter side is below 1024 pixels."),
        ),
        ModelSheet(
            "product-studio",
            "Product Studio",
            "Places a product in a new scene.",
            "1.8",
            "image-to-image",
            "4096x4096",
        ),
        ("product", "packaging"),
    ),
    Task(
        "ad_creative",
        ("Instagram story for a summer sale", "Banner for a newsletter"),
        ("beach at noon, headline SUMMER SALE, call to action", "city roofs at dusk, headline SUMMER SALE"),
        ("Text must be free of spelling mistakes.", "Leave the lower fifth free of text.", None),
        {"aspect_ratio": "9:16", "channel": "instagram"},
        (PROMPT_ADHERENCE, TYPOGRAPHY, COMPOSITION, ARTIFACTS),
        (Gate("text_spelling", "A word in the image is not in the list of allowed words."),),
        ModelSheet(
            "ad-composer", "Ad Composer", "Lays out an advertisement with text.", "3.0", "text-to-image", "2160x3840"
        ),
    ),
    Task(
        "image_generation",
        ("Illustration for a blog post", "Cover of a children's book"),
        ("a fox reading under a lamp, watercolour", "harbour in fog, oil painting, muted colours"),
        (None,),
        {"aspect_ratio": "16:9"},
        (PROMPT_ADHERENCE, COMPOSITION, ANATOMY, ARTIFACTS),
        (Gate("content_safety", "The image was flagged by the content check."),),
        ModelSheet("canvas", "Canvas", "Images from text.", "5.1", "text-to-image", "2048x2048"),
    ),
)


def task_of(task_type: str) -> Task:
    """The task of this type; the last one serves for all that the catalogue does not know."""
    return next((task for task in TASKS if task.task_type == task_type), TASKS[-1])
