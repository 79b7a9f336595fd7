"""Learns from the train fold, and watches validation.

Comes in: `PerturbDataset`, `Split`, a model. Goes out: a fitted LightningModule and blind `Prediction`s of the
    calibration and test folds, handed to whoever listens on test end.
May import: data, split, model, types, errors; lightning, torch. Never calibrate or eval.
To add a way of fitting: one LightningModule here, named by `_target_` in a model's yaml.

    stage/           what is done to the values first, one file per step
    preprocess.py    those stages, learned on train rows, recorded, replayed
    encoder.py       vocabularies and sizes, learned from train rows
    batches.py       rows and queries -> Batch, cut from CSR in one slice
    sampler.py       which rows make which batch; where an epoch stands
    buffers.py       dense arrays used again
    datamodule.py    the LightningDataModule
    closed_form.py   LightningModule of models that are solved
    gradient.py      LightningModule of models that are fitted by gradient
    guards.py        callbacks that no configuration can drop
    fit.py           one training path: seed, Trainer, fit, test
"""
