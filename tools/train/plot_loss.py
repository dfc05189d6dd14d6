#!/usr/bin/env python3
"""Draw loss.csv of train.py as an SVG: training loss, MTP loss and validation bits per byte over tokens."""
import argparse
import csv
import math
from pathlib import Path

W, H, LEFT, RIGHT, TOP, BOTTOM = 860, 460, 64, 64, 44, 56


def number(row, key):
    return float(row[key]) if row[key] else None


def smooth(values, keep=0.7):
    out, state = [], None
    for v in values:
        state = v if state is None else keep * state + (1 - keep) * v
        out.append(state)
    return out


class Axes:
    def __init__(self, xmax, low, high, vlow, vhigh):
        self.xmax, self.low, self.high, self.vlow, self.vhigh = xmax, low, high, vlow, vhigh

    def x(self, v):
        return LEFT + (W - LEFT - RIGHT) * v / self.xmax

    def y(self, v):
        v = min(v, self.high)
        return H - BOTTOM - (H - TOP - BOTTOM) * (v - self.low) / (self.high - self.low)

    def y2(self, v):
        v = min(v, self.vhigh)
        return H - BOTTOM - (H - TOP - BOTTOM) * (v - self.vlow) / (self.vhigh - self.vlow)


def path(points, color, width=1.6):
    d = " ".join(f"{'M' if i == 0 else 'L'}{x:.1f},{y:.1f}" for i, (x, y) in enumerate(points))
    return f'<path d="{d}" fill="none" stroke="{color}" stroke-width="{width}" stroke-linejoin="round"/>'


def text(x, y, s, anchor="middle", color="#444", size=12):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" font-size="{size}">{s}</text>'


def frame(axes, ticks=5):
    out = [f'<rect width="{W}" height="{H}" fill="#fff"/>']
    for i in range(ticks + 1):
        f = i / ticks
        y = H - BOTTOM - (H - TOP - BOTTOM) * f
        x = LEFT + (W - LEFT - RIGHT) * f
        out.append(f'<line x1="{LEFT}" x2="{W - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>')
        out.append(text(LEFT - 8, y + 4, f"{axes.low + (axes.high - axes.low) * f:.2f}", "end"))
        out.append(text(W - RIGHT + 8, y + 4, f"{axes.vlow + (axes.vhigh - axes.vlow) * f:.2f}", "start", "#b4472e"))
        out.append(text(x, H - BOTTOM + 18, f"{axes.xmax * f:.0f}"))
    out.append(text(W / 2, H - 14, "million tokens seen"))
    out.append(text(LEFT - 8, TOP - 12, "loss (nats a token)", "start"))
    out.append(text(W - RIGHT + 8, TOP - 12, "validation bits per byte", "end", "#b4472e"))
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("csv", type=Path)
    ap.add_argument("svg", type=Path)
    args = ap.parse_args()
    rows = list(csv.DictReader(args.csv.open()))
    train = [r for r in rows if not r["val_bpb"]]
    x = [number(r, "tokens") / 1e6 for r in train]
    main_loss, mtp = (smooth([number(r, k) for r in train]) for k in ("loss", "mtp_loss"))
    valid = [(number(r, "tokens") / 1e6, number(r, "val_bpb")) for r in rows if r["val_bpb"]]
    low, vlow = math.floor(min(main_loss) * 2) / 2, math.floor(min(v for _, v in valid) * 10) / 10
    axes = Axes(50 * math.ceil(max(x + [v[0] for v in valid]) / 50), low, low + 2.5, vlow, vlow + 0.5)
    out = frame(axes)
    out.append(path([(axes.x(a), axes.y(b)) for a, b in zip(x, mtp)], "#9aa7b8"))
    out.append(path([(axes.x(a), axes.y(b)) for a, b in zip(x, main_loss)], "#2b5c9e"))
    out.append(path([(axes.x(a), axes.y2(b)) for a, b in valid], "#b4472e", 2))
    out += [f'<circle cx="{axes.x(a):.1f}" cy="{axes.y2(b):.1f}" r="3" fill="#b4472e"/>' for a, b in valid]
    legend = (("#2b5c9e", "next token (training)"), ("#9aa7b8", "MTP head (training)"), ("#b4472e", "validation, right axis"))
    for i, (color, label) in enumerate(legend):
        y = TOP + 16 + 18 * i
        out.append(f'<line x1="{W - 280}" x2="{W - 250}" y1="{y}" y2="{y}" stroke="{color}" stroke-width="2"/>')
        out.append(text(W - 242, y + 4, label, "start"))
    args.svg.parent.mkdir(parents=True, exist_ok=True)
    args.svg.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {W} {H}" width="{W}" height="{H}" '
                        f'font-family="sans-serif">\n' + "\n".join(out) + "\n</svg>\n")


if __name__ == "__main__":
    main()
