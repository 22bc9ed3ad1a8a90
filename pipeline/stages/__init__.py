"""One function a stage: extract, pretrain, detect, infer, evaluate, check."""
