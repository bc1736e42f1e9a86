"""The frozen names of everything that is logged over training, with unit and meaning.

Hyper-parameters never enter a name; what varies is the run's parameters. The tracker refuses
names outside this table. MLflow's step is the number of images seen.
"""

METRICS: dict[str, str] = {
    "loss/total": "what is minimised",
    "loss/reconstruction": "weighted L1 + LPIPS",
    "loss/l1": "mean absolute error, images in [0, 1]",
    "loss/lpips": "LPIPS (VGG) distance",
    "loss/types": "cross entropy of element types, nat",
    "loss/positions": "position term of the reconstruction loss",
    "loss/lattice": "lattice term of the reconstruction loss",
    "loss/flow": "flow loss per noising, before weight and warm-up",
    "loss/flow_weight": "weight of the flow term after warm-up",
    "grad/norm": "global gradient norm before clipping",
    "lr": "learning rate",
    "epoch": "passes over the training set",
    "throughput/images_per_s": "training samples per second, all workers",
    "throughput/mfu": "share of the device's matmul rate, 0..1",
    "data/wait_fraction": "share of the time spent waiting for data, 0..1",
    "data/bad_fraction": "share of unreadable rows so far, 0..1",
    "latent/std": "std of the latent over the batch, mean over channels",
    "latent/effective_rank": "exp of the entropy of the latent covariance spectrum",
    "checkpoint/lag_s": "seconds from a snapshot to its commit",
    "checkpoint/lag_images": "training samples since the last committed checkpoint",
    "memory/device_peak_gib": "peak device memory, GiB",
    "eval/psnr": "held-out reconstruction PSNR, dB",
    "eval/l1": "held-out reconstruction L1",
}
