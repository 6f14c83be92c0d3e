"""Problems for the drop-in for GeomLoss, and their solutions by an independent dense solver."""

import torch
from torch import Tensor
from torch.autograd import grad

# Options, and masses of a and b; for the three problems the value and the first entries of its gradients in x and in a
# (for fixed marginals, centred), as a dense solver finds them that stops at residuals of 1e-14.
CASES = [
    (dict(p=2, blur=0.1), (1, 1)),
    (dict(p=1, blur=0.1), (1, 1)),
    (dict(p=2, blur=0.1), (1.7, 1.7)),
    (dict(p=2, blur=0.1, debias=False), (1, 1)),
    (dict(p=1, blur=0.1, debias=False), (1, 1)),
    (dict(p=2, blur=0.1, reach=0.3), (1, 1)),
    (dict(p=1, blur=0.1, reach=0.3), (1, 1)),
    (dict(p=2, blur=0.1, reach=0.3), (1.7, 0.6)),
    (dict(p=1, blur=0.1, reach=0.3), (1.7, 0.6)),
    (dict(p=2, blur=0.1, reach=0.3, debias=False), (1.7, 0.6)),
    (dict(loss="gaussian", blur=0.3), (1, 1)),
    (dict(loss="laplacian", blur=0.3), (1, 1)),
    (dict(loss="energy"), (1, 1)),
    (dict(loss="energy"), (1.7, 0.6)),
]
NUMBERS = """
0.100872229 -0.029928962 0.190740731 0.083851791 -0.033328371 0.014424452 0.026148458 -0.014320889 0.086680585
0.320136291 -0.044781110 0.368135062 0.286995386 -0.053356675 0.032896237 0.127368161 -0.036982954 0.309118105
0.171482790 -0.050879236 0.190740731 0.142548045 -0.056658230 0.014424452 0.044452378 -0.024345512 0.086680585
0.119948159 -0.031915914 0.191738434 0.105390472 -0.028781423 0.013315409 0.038414803 -0.016866060 0.093828264
0.514652840 -0.056417268 0.380861098 0.500329204 -0.030461151 0.023857590 0.259764290 -0.053132980 0.374885348
0.048370335 -0.005164459 0.060454993 0.042607784 -0.013807141 0.038208487 0.015315176 -0.004527297 0.043255031
0.164128096 -0.005622177 0.196068077 0.155979336 -0.025211698 0.132940516 0.068213635 -0.005580074 0.147181186
0.075353428 -0.003919495 0.074664684 0.070510589 -0.017012874 0.062327718 0.043563412 -0.002895645 0.063590032
0.260863346 0.001174321 0.256702187 0.261524363 -0.040147409 0.229355596 0.179792684 0.004043245 0.221993552
0.093694477 -0.006998064 0.077880607 0.090102879 -0.009758663 0.063443226 0.053923502 -0.006874778 0.068822735
0.147273444 0.031670384 0.218969983 0.114034933 -0.076465041 0.215206243 0.032149963 0.006057418 0.161236662
0.128787679 0.017975393 0.174733610 0.104535756 -0.056236793 0.179033966 0.063216111 0.012610946 0.124337039
0.126950049 -0.005313276 0.356814747 0.090814385 -0.047001111 0.136099159 0.041976304 -0.002823114 0.183134300
-0.156074550 0.099398391 -0.443292031 -0.270258433 -0.215078812 -0.540652943 -0.107261772 0.091199874 -0.449353007
"""
CONVERGED = [
    (*case, [[float(word) for word in line.split()[k : k + 3]] for k in (0, 3, 6)])
    for case, line in zip(CASES, NUMBERS.split("\n")[1:-1], strict=True)
]
DEFAULTS = {
    "p2": (dict(), 0.10350672814641385),
    "p1": (dict(p=1), 0.36830331601806915),
    "reach": (dict(reach=0.3), 0.052101113891051154),
}
IDS = ["-".join(str(v) for v in (*kw.values(), *masses)) for kw, masses, _ in CONVERGED]


def problem(seed: int, masses: tuple[float, float] = (1, 1)) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """a, x, b, y."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    n, m, d = {1: (12, 10, 2), 2: (9, 14, 3), 3: (8, 8, 1)}[seed]
    x, y, a, b = draw(n, d), draw(m, d) + 0.2, draw(n) + 0.1, draw(m) + 0.1
    return masses[0] * a / a.sum(), x, masses[1] * b / b.sum(), y


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """a, x, b, y of two items."""
    generator = torch.Generator().manual_seed(4)
    draw = lambda *shape: torch.rand(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x, y, a, b = draw(2, 6, 2), draw(2, 5, 2) + 0.2, draw(2, 6) + 0.1, draw(2, 5) + 0.1
    return a / a.sum(1, keepdim=True), x, b / b.sum(1, keepdim=True), y


def fixed(options: dict) -> bool:
    return options.get("loss", "sinkhorn") == "sinkhorn" and "reach" not in options


def differentiated(loss, a: Tensor, x: Tensor, b: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The value, and its gradients in x and in a."""
    x, a = x.clone().requires_grad_(), a.clone().requires_grad_()
    value = loss(a, x, b, y)
    return value.detach(), *grad(value.sum(), (x, a))


def centred(gradient: Tensor, a: Tensor) -> Tensor:
    return gradient - (a @ gradient) / a.sum()


def half_squares(x: Tensor, y: Tensor) -> Tensor:
    """GeomLoss's cost, from (..., N, D) and (..., M, D)."""
    return ((x[..., :, None, :] - y[..., None, :, :]) ** 2).sum(-1) / 2


def gaussian(x, y, blur, use_keops, ranges):
    assert not use_keops and ranges is None and x.ndim == 3
    return (-half_squares(x, y) / blur**2).exp()
