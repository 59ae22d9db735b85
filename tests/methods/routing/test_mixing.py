"""Per-sample merging against the naive way: each image's own weights, one forward an image."""

import pytest
import torch
from torch import Tensor

from methods.common.vit import PlainOps, ViT, encode, group_of, num_groups
from methods.contract import VIT, images, small_checkpoints
from methods.routing.mixing import Factors, Mixer, PerSampleMatmul, matrices, per_sample_matmul

K, B = 3, 8
KINDS = ("dense", "low rank", "matrices alone", "a few")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def zoo(kind: str) -> tuple[dict, dict, list[dict]]:
    """Base, knowledge as the engine takes it, and as K plain dictionaries."""
    shapes, found, plain = VIT.shapes(), {}, [{} for _ in range(K)]
    base = {name: tensor.double() for name, tensor in small_checkpoints().base.items()}
    for number, (name, shape) in enumerate(shapes.items()):
        matrix = name in matrices(VIT)
        if (kind == "matrices alone" and not matrix) or (kind == "a few" and number % 3):
            continue
        if kind == "low rank" and matrix:
            rows, columns = shape[0], base[name][0].numel()
            found[name] = Factors(
                0.1 * random(K, rows, 2, seed=number), random(K, 2, columns, seed=number + 1)
            )
            taus = (found[name].left @ found[name].right).unflatten(2, shape[1:])
        else:
            taus = found[name] = 0.1 * random(K, *shape, seed=number)
        for one, tau in zip(plain, taus, strict=True):
            one[name] = tau
    return base, found, plain


def naive(x: Tensor, weights: Tensor, base: dict, plain: list[dict]) -> Tensor:
    """One forward per image, with its own weights; ``weights [B, K]`` or ``[B, G, K]``."""
    found = []
    for image, w in zip(x, weights, strict=True):
        theta = {}
        for name, tensor in base.items():
            own = w if w.ndim == 1 else w[group_of(name, VIT)]
            taus = [own[t] * plain[t][name] for t in range(K) if name in plain[t]]
            theta[name] = tensor + sum(taus)
        found.append(encode(image[None], PlainOps(theta), VIT)[0])
    return torch.stack(found)


def weights_of(groups: bool) -> Tensor:
    shape = (B, num_groups(VIT), K) if groups else (B, K)
    return random(*shape, seed=9).softmax(-1)


@pytest.mark.parametrize("groups", [False, True], ids=["per image", "per image and group"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grad", [False, True], ids=["inference", "training"])
def test_equals_one_forward_per_image(kind, groups, grad):
    base, knowledge, plain = zoo(kind)
    x, w = images().double(), weights_of(groups).requires_grad_(grad)
    with torch.set_grad_enabled(grad):
        got = Mixer(VIT, base, knowledge)(x, w)
    want = naive(x, w, base, plain)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
    if grad:
        direction = random(*got.shape, seed=3)
        (found,) = torch.autograd.grad((got * direction).sum(), w)
        (wanted,) = torch.autograd.grad((want * direction).sum(), w)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_all_share_are_merged_once(kind):
    base, knowledge, plain = zoo(kind)
    w = weights_of(True)[:1]
    got = Mixer(VIT, base, knowledge)(images().double(), w)
    want = naive(images().double(), w.expand(B, -1, -1), base, plain)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("groups", [False, True])
def test_what_is_no_matrix_may_have_weights_of_its_own(groups):
    base, knowledge, plain = zoo("dense")
    w, own = weights_of(groups), torch.eye(K, dtype=torch.float64)[1:2]
    got = Mixer(VIT, base, knowledge)(images().double(), w, own)
    products = set(matrices(VIT))
    of_one = [{n: (plain[t] if n in products else plain[1])[n] for n in base} for t in range(K)]
    want = naive(images().double(), w, base, of_one)  # as the weights sum to 1
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 5], ids=lambda n: f"{n} tokens")
def test_gradients_of_a_product(n):
    x, w = random(3, n, 4).requires_grad_(), random(3, 1 + K, seed=1).requires_grad_()
    stack = random(1 + K, 4, 2, seed=2)
    want = torch.einsum("bni,bt,tio->bno", x, w, stack)
    for product in (per_sample_matmul, PerSampleMatmul.apply):
        torch.testing.assert_close(product(x, w, stack), want)
        assert torch.autograd.gradcheck(lambda x, w, p=product: p(x, w, stack), (x, w))


def test_gradients_of_the_whole_forward():
    vit = ViT(image_size=8, patch_size=4, width=4, layers=2, heads=2, output_dim=3)
    shapes = vit.shapes()
    base = {name: random(*shape, seed=i) for i, (name, shape) in enumerate(shapes.items())}
    knowledge = {n: random(2, *shape, seed=50 + i) for i, (n, shape) in enumerate(shapes.items())}
    mixer, x = Mixer(vit, base, knowledge), random(2, 3, 8, 8)
    w = random(2, num_groups(vit), 2, seed=8).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: mixer(x, w), (w,))


def test_chunks_change_nothing(monkeypatch):
    base, knowledge, _ = zoo("dense")
    mixer, w = Mixer(VIT, base, knowledge), weights_of(False)
    whole = mixer(images().double(), w)
    monkeypatch.setattr(
        "methods.routing.mixing.BUILT_BYTES", 256
    )  # a few inputs of a few images at a time
    monkeypatch.setattr("methods.routing.mixing.TOKENS_AT_ONCE", 15)  # parts of three images
    torch.testing.assert_close(mixer(images().double(), w), whole, rtol=0, atol=1e-12)


def test_an_image_does_not_see_its_neighbours():
    base, knowledge, _ = zoo("low rank")
    mixer, w, x = Mixer(VIT, base, knowledge), weights_of(False), images().double()
    alone = torch.cat([mixer(x[i : i + 1], w[i : i + 1]) for i in range(B)])
    torch.testing.assert_close(alone, mixer(x, w), rtol=0, atol=1e-10)


def test_groups_follow_the_network():
    found = [group_of(name, VIT) for name in VIT.shapes()]
    assert sorted(set(found)) == list(range(num_groups(VIT)))
    assert group_of("proj", VIT) == group_of("ln_post.bias", VIT) == 3
    assert group_of("conv1.weight", VIT) == group_of("ln_pre.weight", VIT) == 0
    assert group_of("transformer.resblocks.1.attn.in_proj", VIT) == 2


def test_training_keeps_no_image_s_own_weights():
    """What a backward needs grows by activations, far below one model an image."""
    base, knowledge, _ = zoo("dense")
    mixer = Mixer(VIT, base, knowledge)

    def kept(count: int) -> int:
        found: dict[int, int] = {}

        def note(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            found[storage.data_ptr()] = storage.nbytes()
            return tensor

        x = images().double()[:1].repeat(count, 1, 1, 1)
        w = random(count, K).softmax(-1).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            mixer(x, w)
        return sum(found.values())

    own_weights = sum(tensor.nbytes for tensor in base.values())
    assert (kept(64) - kept(32)) / 32 < own_weights / 2
