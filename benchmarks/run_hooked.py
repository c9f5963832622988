"""ResNet-50 with forward hooks as a process: load the checkpoint, measure, print the values.

python run_hooked.py CHECKPOINT.pth DATA.npy COUNT latents|blocks|relus [channels_last]
"""

import json
import sys

import numpy as np
import torch
from eager import Watched, geed
from jobs import ORDER, RESNET50
from networks import resnet50

checkpoint, path, count, job = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
last = sys.argv[5:] == ["channels_last"]


def watched() -> Watched:
    net = resnet50()
    net.load_state_dict(torch.load(checkpoint, weights_only=True))
    net.eval().requires_grad_(False)
    if last:
        net = net.to(memory_format=torch.channels_last)
    return Watched(net, RESNET50[job][1](net), net.get_submodule("fc"))


samples = torch.from_numpy(np.load(path)[:count])
values = geed(watched, samples, order=ORDER, together=1, channels_last=last)
print(json.dumps(values))
