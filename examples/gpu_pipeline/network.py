"""A small recurrent network that makes words out of nothing: its weights are random.

What it remembers of a conversation is one row of a matrix. So conversations can join and leave a
batch between any two tokens, which for a transformer takes a good deal more code, or vLLM.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvwyz" for vowel in "aeiou"]
WORDS = [first + second for first in SYLLABLES for second in SYLLABLES]
"""Token n is word n."""


class Network(nn.Module):
    """Predicts the next token of each row.

    Args:
        width: of each layer.
        device: where weights and states live.
    """

    def __init__(self, width: int, device: torch.device, layers: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.device = device
        self._blank = torch.zeros(layers, width, device=device)
        self._embed = nn.Embedding(len(WORDS), width)
        self._cells = nn.ModuleList(nn.GRUCell(width, width) for _ in range(layers))
        self._out = nn.Linear(width, len(WORDS))
        self.to(device).eval()

    def blank(self) -> Tensor:
        """What a conversation that has only begun remembers."""
        return self._blank

    @torch.inference_mode()
    def step(self, tokens: list[int], states: list[Tensor]) -> tuple[list[int], list[Tensor]]:
        """One token further, for all rows in one go.

        Args:
            tokens: the last token of each row.
            states: what each row remembers.

        Returns:
            the next token of each, and what each remembers now.
        """
        row = self._embed(torch.tensor(tokens, device=self.device))
        layers = []
        for cell, state in zip(self._cells, torch.stack(states, dim=1), strict=True):
            row = cell(row, state)
            layers.append(row)
        # Drawn by lot: the likeliest word of a model that has learnt nothing is always the same.
        chances = torch.softmax(self._out(row), dim=-1)
        chosen = torch.multinomial(chances, 1).squeeze(1)
        return chosen.tolist(), list(torch.stack(layers).unbind(dim=1))


def device_of_this_process() -> torch.device:
    """The GPU that Ray has given to this process, or the CPU.

    Ray sets ``CUDA_VISIBLE_DEVICES``, so the first device is ours. A share of a GPU (``num_gpus:
    0.5``) is about placement only: nothing limits what a process takes of it.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
