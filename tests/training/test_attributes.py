"""The network that measures faces: labels out of names, and a step of learning."""

import numpy as np
import pytest

pytestmark = pytest.mark.needs_train
torch = pytest.importorskip("torch")

from stream_unmask.models.profile import PORTRAIT  # noqa: E402
from training import attributes  # noqa: E402
from training.attributes import Attributes, Draw, label, labelled, told  # noqa: E402
from training.dataset import FaceSet  # noqa: E402

OUTPUTS = 1 + attributes.GROUPS + attributes.ETHNICITIES


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("9_0_3_2017.jpg.chip.jpg", (0, 0, 3)), ("folder/10_1_0_2017.jpg", (1, 1, 0)),
     ("54_0_4_2.jpg", (0, 3, 4)), ("116_1_2_2.jpg", (1, 4, 2))],
)  # fmt: skip
def test_labels_are_read_off_a_name(name: str, wanted: tuple[int, int, int]) -> None:
    assert label(name) == wanted


@pytest.mark.parametrize("name", ["61_3_2017.jpg", "35_2_0_2.jpg", "35_1_9_2.jpg", "George_1.jpg"])
def test_what_is_no_label_is_refused(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        label(name)


def test_faces_without_a_label_are_left_out(faces: FaceSet) -> None:
    names = ["George_W_Bush_0001.jpg", faces.names[1]]
    known = labelled(FaceSet(faces.archive, names, faces.meshes, faces.worn))
    assert known == [(1, (1, 3, 0))]


def test_samples_are_the_same_for_a_seed(faces: FaceSet) -> None:
    draw = Draw(faces, labelled(faces), seed=1)
    face, truth = draw(4)
    assert face.shape == (3, PORTRAIT.height, PORTRAIT.width)
    assert truth.tolist() == [1, 3, 0]
    assert np.array_equal(draw(4)[0], face)
    assert not np.array_equal(draw(5)[0], face)


def test_plain_samples_are_the_crops_in_order(faces: FaceSet) -> None:
    draw = Draw(faces, labelled(faces), seed=1, plain=True)
    for index in range(4):
        crop = faces.crop(index % 2, PORTRAIT.eyes, PORTRAIT.size).image
        assert np.allclose(draw(index)[0].transpose(1, 2, 0) * 255, crop, atol=1e-3)


def test_features_go_from_fine_to_coarse() -> None:
    network = Attributes((4, 6, 8)).eval()
    faces = torch.rand(2, 3, 64, 48)
    with torch.no_grad():
        shapes = [tuple(seen.shape) for seen in network.features(faces)]
        assert shapes == [(2, 4, 32, 24), (2, 6, 16, 12), (2, 8, 8, 6)]
        assert network(faces).shape == (2, OUTPUTS)


def test_what_logits_tell() -> None:
    logits = torch.zeros(2, OUTPUTS)
    logits[0, 0], logits[0, 3] = 2.0, 5.0
    logits[1, 0], logits[1, 1] = -2.0, 5.0
    sex, age = told(logits)
    assert (sex.tolist(), age.tolist()) == ([1, 0], [2, 0])


def test_a_few_steps_learn_two_faces() -> None:
    torch.manual_seed(0)
    network = Attributes((8, 8, 8))
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    batch = (torch.rand(4, 3, 32, 32), torch.tensor([[1, 2, 0], [0, 4, 3]] * 2).float())
    values = []
    for _ in range(12):
        optimizer.zero_grad()
        value = attributes.loss(network, batch)
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert np.isfinite(values).all()
    assert np.mean(values[-3:]) < values[0]


def test_the_validator_says_what_share_is_told_right(faces: FaceSet) -> None:
    class Sure(torch.nn.Module):
        """Says of everyone: 1, age group 2."""

        def forward(self, pictures: torch.Tensor) -> torch.Tensor:
            logits = torch.zeros(len(pictures), OUTPUTS)
            logits[:, 0], logits[:, 3] = 3.0, 3.0
            return logits

    known = [(0, (1, 2, 0)), (1, (0, 2, 0))]
    score = attributes.validator(Draw(faces, known, 0, plain=True))(Sure())
    assert score == {"score": 0.75, "sex": 0.5, "age": 1.0}
