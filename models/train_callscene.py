"""Trains callscene: `python -m models.train_callscene --into models/callscene`, a quarter of an hour on one core.

The scenes are of `callscene_data`. The folder has to hold hyperparams.yaml, which says what the network is; the
checkpoints are written beside it. The product never imports this.
"""

import argparse
import hashlib
import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from hyperpyyaml import load_hyperpyyaml
from numpy.typing import NDArray
from speechbrain.dataio.encoder import CategoricalEncoder
from torch import Tensor, nn

from models import callscene_sounds
from models.callscene_data import LABELS, Scene, scenes
from models.scenes import contexts

log = logging.getLogger(__name__)

SEED: Final = 425
SCENES: Final = 300  # a minute each
CHECKED_SCENES: Final = 20  # of other chance, not trained on: the same speakers, so no figure of the model card
EPOCHS: Final = 6
BATCH: Final = 64
LEARNING_RATE: Final = 4e-3  # at its highest
LABEL_SMOOTHING: Final = 0.05
MASKED_BANDS: Final = 6  # of the Fbank, at most: SpecAugment (Park et al. 2019), over frequency
GAIN_DB: Final = 4.0


def main() -> None:
    """Train, and write the checkpoints."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--into", type=Path, required=True, help="the folder with hyperparams.yaml")
    arguments.add_argument("--scenes", type=int, default=SCENES)
    arguments.add_argument("--epochs", type=int, default=EPOCHS)
    given = arguments.parse_args()
    callscene_sounds.require()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    with (given.into / "hyperparams.yaml").open(encoding="utf-8") as file:
        hparams = load_hyperpyyaml(file)
    features, labels = examples(hparams["compute_features"], SEED, given.scenes)
    log.info("%d seconds: %s", len(labels), dict(zip(LABELS, np.bincount(labels).tolist(), strict=True)))
    train(hparams, features, labels, given.epochs)
    checked = examples(hparams["compute_features"], SEED + 1, CHECKED_SCENES)
    log.info("right on scenes of the same sources: %.4f", accuracy(hparams, *checked))
    write(hparams, given.into)


def examples(fbank: nn.Module, seed: int, count: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Return the seconds whose class is clear: features of shape (second, frame, band), and labels."""
    made = [_features(fbank, scene) for scene in scenes(seed, count)]
    return torch.cat([features for features, _ in made]), np.concatenate([labels for _, labels in made])


def _features(fbank: nn.Module, scene: Scene) -> tuple[Tensor, NDArray[np.int64]]:
    clear = np.flatnonzero(scene.labels >= 0)
    with torch.no_grad():
        return fbank(torch.from_numpy(contexts(scene.waveform)[clear])).half(), scene.labels[clear]


def train(hparams: dict[str, Any], features: Tensor, labels: NDArray[np.int64], epochs: int) -> None:
    """Fit the network of `hparams` in place."""
    norm, embedding, classifier = (hparams[name] for name in ("mean_var_norm", "embedding_model", "classifier"))
    norm.train()
    for batch in torch.split(features, 1024):
        norm(batch.float(), torch.ones(len(batch)))
    norm.eval()
    targets = torch.from_numpy(labels)
    parameters = [*embedding.parameters(), *classifier.parameters()]
    log.info("%d parameters", sum(parameter.numel() for parameter in parameters))
    optimizer = torch.optim.AdamW(parameters, weight_decay=1e-3)
    steps = len(targets) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, epochs * steps, pct_start=0.2)
    weights = 1 / torch.bincount(targets).float().sqrt()
    criterion = nn.CrossEntropyLoss(weights / weights.mean(), label_smoothing=LABEL_SMOOTHING)
    for epoch in range(epochs):
        embedding.train()
        classifier.train()
        losses = []
        for chosen in torch.randperm(len(targets))[: steps * BATCH].view(steps, BATCH):
            inputs = masked(norm(features[chosen].float() + gains(BATCH)))
            loss = criterion(classifier(embedding(inputs)).squeeze(1), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
        log.info("epoch %d: loss %.4f", epoch + 1, np.mean(losses))
    embedding.eval()
    classifier.eval()


def gains(count: int) -> Tensor:
    """Return a gain for each example, in dB. Shape (example, 1, 1)."""
    return (torch.rand(count, 1, 1) * 2 - 1) * GAIN_DB


def masked(inputs: Tensor) -> Tensor:
    """Put the mean in place of some neighbouring bands of half of the examples. Shape (example, frame, band)."""
    bands = torch.arange(inputs.shape[2])
    first = torch.randint(0, inputs.shape[2], (len(inputs), 1))
    width = torch.randint(0, MASKED_BANDS + 1, (len(inputs), 1)) * torch.randint(0, 2, (len(inputs), 1))
    hidden = (bands >= first) & (bands < first + width)
    return inputs.masked_fill(hidden[:, None, :], 0.0)


def accuracy(hparams: dict[str, Any], features: Tensor, labels: NDArray[np.int64]) -> float:
    """Return the share of seconds that are right."""
    norm, embedding, classifier = (hparams[name] for name in ("mean_var_norm", "embedding_model", "classifier"))
    with torch.no_grad():
        scores = [classifier(embedding(norm(batch.float()))) for batch in torch.split(features, 512)]
    found = np.concatenate([np.asarray(batch) for batch in scores])[:, 0].argmax(axis=1)
    return float(np.mean(found == labels))


def write(hparams: dict[str, Any], folder: Path) -> None:
    """Write the checkpoints as SpeechBrain's Pretrainer looks for them, and log what group.toml is to name."""
    encoder: CategoricalEncoder = hparams["label_encoder"]
    encoder.update_from_iterable(LABELS)
    for name, each in hparams["pretrainer"].loadables.items():
        path = folder / f"{name}.ckpt"
        match each:
            case CategoricalEncoder():
                each.save(str(path))
            case _ if name == "mean_var_norm":
                each._save(path)  # what SpeechBrain's Checkpointer calls
            case _:
                torch.save(each.state_dict(), path)
    for path in sorted([*folder.glob("*.ckpt"), folder / "hyperparams.yaml"]):
        log.info('"%s" = "%s"', path.name, hashlib.sha256(path.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
