"""ImageNet's labels: count, order, spelling."""

from __future__ import annotations

import pytest

from vgg_cuda.weights.labels import imagenet_labels

# Indices that the literature and the tutorials use, spread over all families of classes.
KNOWN = {
    0: "tench", 1: "goldfish", 2: "great white shark", 7: "cock", 9: "ostrich", 22: "bald eagle",
    65: "sea snake", 84: "peacock", 99: "goose", 100: "black swan", 130: "flamingo",
    134: "crane bird", 145: "king penguin", 151: "Chihuahua", 207: "golden retriever",
    208: "Labrador retriever", 235: "German shepherd", 258: "Samoyed", 263: "Pembroke",
    281: "tabby", 282: "tiger cat", 285: "Egyptian cat", 291: "lion", 292: "tiger",
    323: "monarch", 340: "zebra", 386: "African elephant", 388: "giant panda", 398: "abacus",
    404: "airliner", 430: "basketball", 463: "bucket", 504: "coffee mug", 517: "construction crane",
    530: "digital clock", 609: "jeep", 620: "laptop", 638: "maillot", 639: "tank suit",
    701: "parachute", 751: "racer", 779: "school bus", 817: "sports car", 859: "toaster",
    879: "umbrella", 895: "warplane", 920: "traffic light", 933: "cheeseburger", 949: "strawberry",
    950: "orange", 954: "banana", 963: "pizza", 967: "espresso", 980: "volcano", 985: "daisy",
    988: "acorn", 999: "toilet tissue",
}  # fmt: skip


def test_labels_are_1000_and_unique() -> None:
    labels = imagenet_labels()
    assert len(labels) == len(set(labels)) == 1000
    assert all(label == label.strip() and label.isascii() and label for label in labels)


@pytest.mark.parametrize(("index", "label"), KNOWN.items())
def test_known_indices(index: int, label: str) -> None:
    assert imagenet_labels()[index] == label
