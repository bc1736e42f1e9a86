"""torch that comes with the first name that is used."""

import subprocess
import sys


def test_torch_is_imported_with_the_first_name(root):
    script = (
        "import sys; from unite.lazy import torch\n"
        "print('torch' in sys.modules, torch.zeros(2).sum().item(), 'torch' in sys.modules)\n"
        "import torch as plain; print(torch.Tensor is plain.Tensor, torch.nn is plain.nn)"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=root)
    assert run.stdout.split() == ["False", "0.0", "True", "True", "True"], run.stderr
