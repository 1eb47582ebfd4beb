"""Networks of PyTorch of the usual families, narrow and without torchvision; seeded, their statistics randomised."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["NETS", "net"]


class ResNet(nn.Module):
    """Basic and bottleneck blocks, shortcuts with a projection."""

    class Bottleneck(nn.Module):
        def __init__(self, given: int, width: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(given, width, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(4 * width)
            self.relu = nn.ReLU(inplace=True)
            self.downsample = None
            if stride != 1 or given != 4 * width:
                self.downsample = nn.Sequential(
                    nn.Conv2d(given, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
                )

        def forward(self, x: Tensor) -> Tensor:
            out = self.relu(self.bn1(self.conv1(x)))
            out = self.relu(self.bn2(self.conv2(out)))
            out = self.bn3(self.conv3(out))
            out += x if self.downsample is None else self.downsample(x)
            return self.relu(out)

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(self.Bottleneck(8, 4, 1), self.Bottleneck(16, 4, 1))
        self.layer2 = nn.Sequential(self.Bottleneck(16, 6, 2), self.Bottleneck(24, 6, 1))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class DenseNet(nn.Module):
    """Two dense blocks with a transition."""

    class Layer(nn.Module):
        def __init__(self, given: int) -> None:
            super().__init__()
            self.norm1, self.conv1 = nn.BatchNorm2d(given), nn.Conv2d(given, 16, 1, bias=False)
            self.norm2, self.conv2 = nn.BatchNorm2d(16), nn.Conv2d(16, 4, 3, padding=1, bias=False)

        def forward(self, features: list[Tensor]) -> Tensor:
            x = torch.cat(features, 1)
            return self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(x))))))

    class Block(nn.Module):
        def __init__(self, given: int, count: int) -> None:
            super().__init__()
            self.layers = nn.ModuleList(DenseNet.Layer(given + 4 * i) for i in range(count))

        def forward(self, x: Tensor) -> Tensor:
            features = [x]
            for layer in self.layers:
                features.append(layer(features))
            return torch.cat(features, 1)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        self.block1 = self.Block(8, 3)
        self.transition = nn.Sequential(
            nn.BatchNorm2d(20), nn.ReLU(), nn.Conv2d(20, 10, 1, bias=False), nn.AvgPool2d(2, 2)
        )
        self.block2 = self.Block(10, 3)
        self.norm = nn.BatchNorm2d(22)
        self.classifier = nn.Linear(22, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.block2(self.transition(self.block1(self.stem(x))))))
        return self.classifier(F.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


class SqueezeExcite(nn.Module):
    def __init__(self, width: int, inner: int, act: Callable[[], nn.Module], gate: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.act, self.fc2, self.gate = nn.Conv2d(width, inner, 1), act(), nn.Conv2d(inner, width, 1), gate()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.fc2(self.act(self.fc1(self.avgpool(x)))))


class Inverted(nn.Module):
    """An inverted residual with a squeeze and an excitation."""

    def __init__(self, given: int, wide: int, out: int, kernel: int, stride: int, act: Any, squeeze: Any) -> None:
        super().__init__()
        parts = []
        if wide != given:
            parts += [nn.Conv2d(given, wide, 1, bias=False), nn.BatchNorm2d(wide), act()]
        parts += [
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            act(),
        ]
        if squeeze is not None:
            parts.append(squeeze(wide))
        parts += [nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.block = nn.Sequential(*parts)
        self.shortcut = stride == 1 and given == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.shortcut else self.block(x)


class MobileNetV3(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def squeeze(width: int) -> nn.Module:
            return SqueezeExcite(width, 8, nn.ReLU, nn.Hardsigmoid)

        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish(),
            Inverted(8, 8, 8, 3, 2, nn.ReLU, squeeze),
            Inverted(8, 24, 12, 3, 2, nn.ReLU, None),
            Inverted(12, 36, 12, 5, 1, nn.Hardswish, squeeze),
            nn.Conv2d(12, 36, 1, bias=False), nn.BatchNorm2d(36), nn.Hardswish(),
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(36, 20), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(20, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class EfficientNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def squeeze(width: int) -> nn.Module:
            return SqueezeExcite(width, 4, nn.SiLU, nn.Sigmoid)

        self.features = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8, eps=1e-3), nn.SiLU(inplace=True)),
            Inverted(8, 8, 8, 3, 1, nn.SiLU, squeeze),
            Inverted(8, 32, 12, 3, 2, nn.SiLU, squeeze),
            Inverted(12, 48, 12, 5, 1, nn.SiLU, squeeze),
            nn.Sequential(nn.Conv2d(12, 40, 1, bias=False), nn.BatchNorm2d(40), nn.SiLU(inplace=True)),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.2, inplace=True), nn.Linear(40, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(F.adaptive_avg_pool2d(self.features(x), 1).flatten(1)).softmax(-1)


class ConvNeXt(nn.Module):
    class Norm(nn.LayerNorm):
        """Over the channels of an image."""

        def forward(self, x: Tensor) -> Tensor:
            return F.layer_norm(x.permute(0, 2, 3, 1), self.normalized_shape, self.weight, self.bias, self.eps).permute(
                0, 3, 1, 2
            )

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
            self.norm = nn.LayerNorm(width, eps=1e-6)
            self.pwconv1, self.act, self.pwconv2 = nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
            self.gamma = nn.Parameter(0.3 * torch.randn(width))

        def forward(self, x: Tensor) -> Tensor:
            y = self.dwconv(x).permute(0, 2, 3, 1)
            y = self.gamma * self.pwconv2(self.act(self.pwconv1(self.norm(y))))
            return x + y.permute(0, 3, 1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 4, 4), self.Norm(8, eps=1e-6))
        self.stage1 = nn.Sequential(self.Block(8), self.Block(8))
        self.down = nn.Sequential(self.Norm(8, eps=1e-6), nn.Conv2d(8, 16, 2, 2))
        self.stage2 = self.Block(16)
        self.norm, self.head = nn.LayerNorm(16, eps=1e-6), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stage2(self.down(self.stage1(self.stem(x))))
        return self.head(self.norm(x.mean([-2, -1])))


class UNet(nn.Module):
    class Double(nn.Sequential):
        def __init__(self, given: int, out: int) -> None:
            super().__init__(
                nn.Conv2d(given, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True),
                nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True),
            )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.middle = self.Double(3, 6), self.Double(6, 10), self.Double(10, 16)
        self.up2, self.join2 = nn.ConvTranspose2d(16, 10, 2, 2), self.Double(20, 10)
        self.up1, self.join1 = nn.Upsample(scale_factor=2, mode="bilinear"), self.Double(16, 6)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.middle(F.max_pool2d(b, 2))
        c = self.join2(torch.cat([b, self.up2(c)], 1))
        return self.out(self.join1(torch.cat([a, self.up1(c)], 1)))


class ViT(nn.Module):
    """Patches, a class token, learned positions, encoder blocks of PyTorch's own attention."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.ln_1, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
            self.ln_2 = nn.LayerNorm(width)
            self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

        def forward(self, x: Tensor) -> Tensor:
            y = self.ln_1(x)
            x = x + self.attention(y, y, y, need_weights=False)[0]
            return x + self.mlp(self.ln_2(x))

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 8, 8)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 25, 16))
        self.blocks = nn.Sequential(self.Block(16), self.Block(16))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Bert(nn.Module):
    """Embeddings of words, places and kinds, one layer with a mask, a pooler; a dict of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places, self.kinds = nn.Embedding(30, 16), nn.Embedding(64, 16), nn.Embedding(2, 16)
        self.norm = nn.LayerNorm(16, eps=1e-12)
        self.query, self.key, self.value, self.mix = (nn.Linear(16, 16) for _ in range(4))
        self.norm1, self.wide, self.narrow, self.norm2 = (
            nn.LayerNorm(16),
            nn.Linear(16, 32),
            nn.Linear(32, 16),
            nn.LayerNorm(16),
        )
        self.pooler = nn.Linear(16, 16)
        self.register_buffer("ids", torch.arange(64)[None])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        count, length = input_ids.shape
        x = self.words(input_ids) + self.places(self.ids[:, :length]) + self.kinds(torch.zeros_like(input_ids))
        x = self.norm(x)

        def heads(t: Tensor) -> Tensor:
            return t.view(count, length, 2, 8).transpose(1, 2)

        scores = heads(self.query(x)) @ heads(self.key(x)).transpose(-1, -2) / math.sqrt(8)
        scores = scores + (1.0 - attention_mask[:, None, None, :].float()) * -10000.0
        y = (scores.softmax(-1) @ heads(self.value(x))).transpose(1, 2).reshape(count, length, 16)
        x = self.norm1(x + self.mix(y))
        x = self.norm2(x + self.narrow(F.gelu(self.wide(x))))
        return {"last_hidden_state": x, "pooler_output": torch.tanh(self.pooler(x[:, 0]))}


class GPT(nn.Module):
    """One block with a causal mask, by scaled_dot_product_attention; the head shares the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(30, 16), nn.Embedding(64, 16)
        self.ln_1, self.c_attn, self.c_proj = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.ln_2, self.c_fc, self.c_out = nn.LayerNorm(16), nn.Linear(16, 64), nn.Linear(64, 16)
        self.ln_f, self.lm_head = nn.LayerNorm(16), nn.Linear(16, 30, bias=False)
        self.lm_head.weight = self.wte.weight

    def forward(self, tokens: Tensor) -> Tensor:
        count, length = tokens.shape
        x = self.wte(tokens) + self.wpe(torch.arange(length, device=tokens.device))
        q, k, v = self.c_attn(self.ln_1(x)).split(16, 2)
        q, k, v = (t.view(count, length, 2, 8).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(count, length, 16))
        x = x + self.c_out(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))
        return self.lm_head(self.ln_f(x))


class LSTM(nn.Module):
    """Two layers, both ways, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 6)
        self.lstm = nn.LSTM(6, 7, 2, batch_first=True, bidirectional=True, dropout=0.3)
        self.head = nn.Linear(14, 4)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        x, (h, _) = self.lstm(self.embedding(tokens))
        return self.head(x), h[-1]


class GRU(nn.Module):
    """Two layers, time first, with an initial state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 6, 2)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return self.head(self.gru(x, state)[0])


class Decoder(nn.Module):
    """PyTorch's TransformerDecoder: causal attention to itself, attention to a memory."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(16, 2, 32, dropout=0.1, batch_first=True, norm_first=True)
        self.decoder = nn.TransformerDecoder(layer, 2, nn.LayerNorm(16))
        self.head = nn.Linear(16, 9)

    def forward(self, target: Tensor, memory: Tensor) -> Tensor:
        length = target.shape[1]
        mask = torch.full((length, length), float("-inf")).triu(1)
        return self.head(self.decoder(target, memory, tgt_mask=mask, tgt_is_causal=True))


NETS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "ResNet": (ResNet, {"x": ("N", 3, "H", "W")}),
    "DenseNet": (DenseNet, {"x": ("N", 3, "H", "W")}),
    "MobileNetV3": (MobileNetV3, {"x": ("N", 3, "H", "W")}),
    "EfficientNet": (EfficientNet, {"x": ("N", 3, "H", "W")}),
    "ConvNeXt": (ConvNeXt, {"x": ("N", 3, "H", "W")}),
    "UNet": (UNet, {"x": ("N", 3, "H", "W")}),
    "ViT": (ViT, {"x": ("N", 3, 32, 48)}),
    "BERT": (Bert, {"input_ids": ("int64", ("N", "L")), "attention_mask": ("int64", ("N", "L"))}),
    "GPT": (GPT, {"tokens": ("int64", ("N", "L"))}),
    "LSTM": (LSTM, {"tokens": ("int64", ("N", "L"))}),
    "GRU": (GRU, {"x": ("L", "N", 5), "state": (2, "N", 6)}),
    "Decoder": (Decoder, {"target": ("N", "L", 16), "memory": ("N", "M", 16)}),
}
"""By name: the class, and what is said of its inputs."""


def net(name: str, seed: int = 3) -> nn.Module:
    """The network in eval mode, every number of it random."""
    torch.manual_seed(seed)
    made = NETS[name][0]()
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.2)
            nn.init.normal_(part.bias, 0.0, 0.2)
            nn.init.normal_(part.running_mean, 0.0, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
        elif isinstance(part, nn.LayerNorm):
            nn.init.normal_(part.weight, 1.0, 0.2)
            nn.init.normal_(part.bias, 0.0, 0.2)
    return made.eval()
