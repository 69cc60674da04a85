"""Complete configurations. Each function's docstring gives the command, the hardware and what to expect.

Numbers of the paper (arXiv 1906.02940, section "Experiments"): batch, steps, momentum, weight decay, warm-up. Peak
learning rates are ours, within the published range 0.01-0.4.
"""

import dataclasses
from collections.abc import Callable

from selfie_model.config import Config, ModelConfig, RuntimeConfig, TrainConfig


def cifar10() -> Config:
    """CIFAR-10, 32 px: 4x4 patches of 8 px, 12 seen, 4 to be put back; 25.1 M parameters.

        selfie-model pretrain SHARDS --preset cifar10 --out RUN
        selfie-model finetune SHARDS --from RUN --labelled 5% --out RUN2

    Hardware: one GPU of 16 GB or more. Time: not measured. Accuracy of the paper: 75.9 ± 0.4 with 5 % of the labels,
    95.7 ± 0.1 with all; ours: not measured.
    """
    return Config(
        preset="cifar10",
        pretrain=TrainConfig(batch_size=512, learning_rate=0.4),
        finetune=TrainConfig(batch_size=512, learning_rate=0.1, augmentation="padded_crop_flip"),
    )


def imagenet32() -> Config:
    """ImageNet at 32 px: the model of `cifar10`, batches of 1,024.

        selfie-model pretrain SHARDS --preset imagenet32 --out RUN

    Hardware: one GPU of 24 GB or more. Time: not measured. Accuracy of the paper: 18.3 ± 0.1 with 5 % of the labels,
    56.4 ± 0.6 with all; ours: not measured.
    """
    return Config(
        preset="imagenet32",
        pretrain=TrainConfig(batch_size=1024, learning_rate=0.4),
        finetune=TrainConfig(batch_size=1024, learning_rate=0.1, augmentation="padded_crop_flip"),
    )


def imagenet224() -> Config:
    """ImageNet at 224 px: 7x7 patches of 32 px, 37 seen, 12 to be put back.

        torchrun --nproc-per-node 8 -m selfie_model.cli pretrain SHARDS --preset imagenet224 --out RUN

    Hardware: meant for one 80 GB GPU or several smaller ones. Time: not measured; at 2,500-3,000 images/s, the rate
    that the arithmetic of a ResNet-50 step allows on an H100, 120,000 steps of 1,024 take 11-14 hours. Accuracy of the
    paper: 46.7 ± 0.4 with 5 % of the labels, 77.0 ± 0.1 with all; ours: not measured.
    """
    return Config(
        preset="imagenet224",
        model=ModelConfig(image_size=224, patch_size=32, context=37, target=12, stem="large", positions="row_column"),
        pretrain=TrainConfig(batch_size=1024, learning_rate=0.4, augmentation="crop_flip", crop_area_min=0.2),
        finetune=TrainConfig(batch_size=1024, learning_rate=0.1, augmentation="crop_flip", crop_area_min=0.08),
    )


def tiny() -> Config:
    """A model that learns on a CPU in a minute, for 32 px images: 0.13 M parameters instead of 25.1 M.

        selfie-model pretrain SHARDS --preset tiny --out RUN

    An eighth as wide and a third as deep as `cifar10`, and with the large stem, which takes an 8 px patch to 2x2 at
    once: four times faster than the small one, and more is learned in the same time (decision 023).

    Hardware: any CPU. Time: 69 s of processor time for pretraining (AMD EPYC, one thread). Accuracy in pretraining on
    CIFAR-10: 47.4 % of the held-out patches put back right, chance is 25 %; on noise 24.6 %. With 5 % of the labels:
    47.2 % and 47.5 % of the test set after it, 44.4 % and 45.3 % from scratch (two seeds; CIFAR-10 re-encoded as JPEG).
    """
    return Config(
        preset="tiny",
        model=ModelConfig(
            stem="large",
            width=8,
            blocks=(1, 1, 1, 1),
            attention_blocks=1,
            attention_heads=4,
            attention_hidden=128,
            dropout=0.0,
        ),
        pretrain=TrainConfig(steps=1000, batch_size=128, learning_rate=0.8, warmup_steps=50),
        finetune=TrainConfig(
            steps=500, batch_size=128, learning_rate=0.1, warmup_steps=50, augmentation="padded_crop_flip"
        ),
        runtime=RuntimeConfig(log_every=50, validate_every=250, checkpoint_every=250),
    )


def small() -> Config:
    r"""What two cores can show in a night, for 32 px images: `tiny` with the paper's stem, on a longer schedule.

        selfie-model reproduce SHARDS --test TEST_SHARDS --preset small --fractions 5,10,20 --seeds 5 \
            --pretrain-per-seed --compute-matched --out STUDY

    Computes in bf16, which a CPU with AVX512-BF16 or AMX does faster than float32 (decision 022); without these
    instructions `--set runtime.precision=float32` is faster.

    Hardware: any CPU; two processes of one thread each (OMP_NUM_THREADS=1, the same --out) share the cells. Time: by
    the step's rate on an AMD EPYC (1,221 images a second and thread) ten hours on two cores for the command above; not
    measured as a whole. Accuracy with `--budget 0.3` on 100 classes of ImageNet-32, five seeds: 15.32 ± 1.13 % with 5 %
    of the labels, from scratch 14.07 ± 0.82; 21.52 ± 0.77 with 20 %, from scratch 20.16 ± 1.36 (docs/results.md).
    """
    longer = tiny().override(
        model={"stem": "small"},
        pretrain={"steps": 14_000},
        finetune={"steps": 4000},
        runtime={"precision": "bfloat16", "log_every": 200, "validate_every": 2000, "checkpoint_every": 1000},
    )
    return dataclasses.replace(longer, preset="small")


PRESETS: dict[str, Callable[[], Config]] = {
    "cifar10": cifar10,
    "imagenet32": imagenet32,
    "imagenet224": imagenet224,
    "tiny": tiny,
    "small": small,
}
