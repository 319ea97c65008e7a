"""Which GPU kernels a replayed training step spends its time in, by PyTorch's profiler: milliseconds, launches, name.

python benchmarks/kernels.py --tune
"""

from __future__ import annotations

import argparse
from collections import Counter

import networks  # beside this file
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

STEPS = 5


def main() -> None:
    """Profile each network and print its longest kernels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["swin_umamba", "swin_umamba_d"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--rows", type=int, default=45)
    parser.add_argument("--tune", action="store_true", help="cuDNN tries its convolutions")
    given = parser.parse_args()
    torch.backends.cudnn.benchmark = given.tune
    for name in given.networks:
        network = networks.build(name, "auto", given.size).cuda().train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)
        image = torch.randn(given.batch, networks.IN_CHANNELS, given.size, given.size, device="cuda")
        target = torch.randint(networks.CLASSES, (given.batch, given.size, given.size), device="cuda")
        run = networks.graph_training(network, image, torch.bfloat16)

        def step(run=run, image=image, target=target, optimizer=optimizer) -> None:
            with torch.autocast("cuda", torch.bfloat16):
                loss = networks.loss_of(run(image), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        taken = networks.seconds(step, "cuda", 20, 5)
        with profile(activities=[ProfilerActivity.CUDA]) as record:
            for _ in range(STEPS):
                step()
            torch.cuda.synchronize()
        times, counts = Counter(), Counter()
        for event in record.events():
            if event.device_type == DeviceType.CUDA:
                times[event.name] += event.device_time_total / 1e3 / STEPS
                counts[event.name] += 1
        speed = f"{given.batch / taken:.1f} images/s, {1e3 * taken:.2f} ms a step"
        launches = counts.total() // STEPS
        print(f"{name}: {speed}, {sum(times.values()):.2f} ms of kernels in {launches} launches")
        for kernel, milliseconds in times.most_common(given.rows):
            print(f"{milliseconds:9.3f} {counts[kernel] // STEPS:5}  {kernel[:160]}", flush=True)


if __name__ == "__main__":
    main()
