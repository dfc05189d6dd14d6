"""Chunked gated delta rule in plain PyTorch, made of few large batched products.

Tensors are laid out chunk-first, (n, b, hk, r, c, d): n chunks, b sequences, hk key heads, r value
heads per key head, c tokens per chunk, d = 128. Per value head the recurrence is

    S <- exp(g) S;  e = beta (v - S^T k);  S <- S + k e^T;  o = S^T q / sqrt(d)

Per chunk, with G = cumsum(g) and D_ij = exp(G_i - G_j) for i >= j:

    T = (I + tril(beta_i k_i.k_j D_ij, -1))^-1
    U = T (beta V)         W = T (beta e^G K)        Kd = e^{G_C - G} K
    S <- e^{G_C} S + Kd^T U - (Kd^T W) S             (the only serial part)
    O = e^G Q S + (Q K^T o D) (U - W S)
"""
import torch
import torch.nn.functional as F

BLOCK = 16


def _unit_lower_inverse(a):
    """(I + a)^-1 for strictly lower triangular a [..., c, c]; 16x16 blocks, then merges; fp32."""
    c = a.shape[-1]
    nb = c // BLOCK
    lead = a.shape[:-2]
    eye = torch.eye(BLOCK, dtype=a.dtype, device=a.device)
    diag = torch.stack([a[..., i * BLOCK:(i + 1) * BLOCK, i * BLOCK:(i + 1) * BLOCK] for i in range(nb)], -3)
    x = -diag
    inv = eye + x
    for _ in range(3):  # (I + x)(I + x^2)(I + x^4)(I + x^8), exact because x^16 = 0
        x = x @ x
        inv = inv + inv @ x
    size = BLOCK
    while size < c:
        pairs = c // (2 * size)
        top, bottom = inv[..., 0::2, :, :], inv[..., 1::2, :, :]
        off = torch.stack([a[..., (2 * i + 1) * size:(2 * i + 2) * size, 2 * i * size:(2 * i + 1) * size]
                           for i in range(pairs)], -3)
        corner = -(bottom @ (off @ top))
        upper = torch.cat([top, torch.zeros_like(top)], -1)
        inv = torch.cat([upper, torch.cat([corner, bottom], -1)], -2)
        size *= 2
    return inv.reshape(*lead, c, c)


class UnitLowerInverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a):
        inv = _unit_lower_inverse(a)
        ctx.save_for_backward(inv)
        return inv

    @staticmethod
    def backward(ctx, grad):
        (inv,) = ctx.saved_tensors
        t = inv.transpose(-1, -2)
        return -(t @ grad @ t).tril(-1)


class StateScan(torch.autograd.Function):
    """States before each chunk of S <- decay S + e - p S, S_0 = 0; states kept in e's type, sums in fp32."""

    @staticmethod
    def forward(ctx, decay, e, p):
        n, lead, d = e.shape[0], e.shape[1:-2], e.shape[-1]
        state = torch.zeros(*lead, d, d, dtype=decay.dtype, device=e.device)
        states = [state.to(e.dtype)]
        for i in range(n - 1):
            state = decay[i, ..., None, None] * state + e[i] - p[i] @ states[-1]
            states.append(state.to(e.dtype))
        out = torch.stack(states)
        ctx.save_for_backward(decay, p, out)
        return out

    @staticmethod
    def backward(ctx, grad):
        decay, p, states = ctx.saved_tensors
        n = p.shape[0]
        acc = torch.zeros_like(states[0], dtype=decay.dtype)
        after = [None] * n
        after[n - 1] = torch.zeros_like(states[0])
        for i in range(n - 1, 0, -1):
            carried = decay[i, ..., None, None] * acc - p[i].transpose(-1, -2) @ after[i]
            acc = grad[i].to(decay.dtype) + carried
            after[i - 1] = acc.to(states.dtype)
        grad_e = torch.stack(after)
        grad_p = -(grad_e @ states.transpose(-1, -2))
        grad_decay = (grad_e.to(decay.dtype) * states.to(decay.dtype)).sum((-1, -2))
        return grad_decay, grad_e, grad_p


def l2norm(x):
    return x * torch.rsqrt((x * x).sum(-1, keepdim=True) + 1e-6)


def _chunks(x, chunk, groups):
    """[b, t, h, d] -> [n, b, hk, (r,) c, d] with h = hk * r; r is kept only when groups > 1 is given."""
    b, t, h, d = x.shape
    if groups is None:
        return x.reshape(b, t // chunk, chunk, h, d).permute(1, 0, 3, 2, 4)
    return x.reshape(b, t // chunk, chunk, h // groups, groups, d).permute(1, 0, 3, 4, 2, 5)


def gated_delta_rule(q, k, v, g, beta, chunk=64):
    """q, k [b, t, hk, d] (not normalised), v [b, t, hv, d]; g, beta [b, t, hv] fp32 -> o [b, t, hv, d] in v's type."""
    b, t, hv, d = v.shape
    low, acc = v.dtype, g.dtype
    r = hv // q.shape[2]
    pad = -t % chunk
    if pad:
        q, k, v = (F.pad(x, (0, 0, 0, 0, 0, pad)) for x in (q, k, v))
        g, beta = (F.pad(x, (0, 0, 0, pad)) for x in (g, beta))
    qf = _chunks(l2norm(q.to(acc)) * d ** -0.5, chunk, None)
    kf = _chunks(l2norm(k.to(acc)), chunk, None)
    v = _chunks(v, chunk, r)
    gc = _chunks(g[..., None], chunk, r)[..., 0].cumsum(-1)
    beta = _chunks(beta[..., None], chunk, r)[..., 0]
    ql, kl = qf.to(low), kf.to(low)
    decay = (gc[..., :, None] - gc[..., None, :]).tril().exp().tril()
    kk = (kf @ kf.transpose(-1, -2)).unsqueeze(3)
    inv = UnitLowerInverse.apply((beta[..., None] * kk * decay).tril(-1))
    eg = gc.exp()
    last = gc[..., -1:]
    u = (inv * beta[..., None, :]).to(low) @ v
    w_rows = (inv * (beta * eg)[..., None, :]).to(low).flatten(3, 4)
    w = (w_rows @ kl).unflatten(3, (r, chunk))
    kd = (kf.unsqueeze(3) * (last - gc).exp()[..., None]).to(low).transpose(-1, -2)
    states = StateScan.apply(last[..., 0].exp(), kd @ u, kd @ w)
    scores = ((ql @ kl.transpose(-1, -2)).unsqueeze(3).to(acc) * decay).to(low)
    qe = (qf.unsqueeze(3) * eg[..., None]).to(low)
    new = u - w @ states
    o = qe @ states + scores @ new
    o = o.permute(1, 0, 4, 2, 3, 5).reshape(b, t + pad, hv, d)
    return o[:, :t]
