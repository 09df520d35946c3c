"""Transfer functions, primaries and tone mapping of the video standards, as pure functions of arrays.

Light is relative: 1.0 is reference white. What that is of each transfer function stands in `CURVES`.

Sources: SMPTE ST 2084 (PQ); ITU-R BT.2100-2 (PQ, HLG and its OOTF); ITU-R BT.2408-7 (reference white: 203 cd/m2 of PQ,
75 % of HLG); ITU-R BT.2390-10, section 5.4.1 (EETF, the tone curve); ITU-T H.273 (all others, and the primaries).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

REFERENCE_WHITE: Final = 203.0  # cd/m2
PQ_PEAK: Final = 10_000.0  # cd/m2 of PQ's code 1
HLG_PEAK: Final = 1000.0  # cd/m2 of the display that HLG is shown on; its system gamma is then 1.2
HLG_GAMMA: Final = 1.2
USUAL_PEAK: Final = 1000.0  # cd/m2 of PQ pictures that do not say theirs

_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
_A = 0.17883277
_B, _C = 1 - 4 * _A, 0.5 - _A * float(np.log(4 * _A))

Chromaticities = tuple[float, float, float, float, float, float, float, float]  # x, y of red, green, blue, white

_D65, _CIE_C, _EQUAL = (0.3127, 0.3290), (0.310, 0.316), (1 / 3, 1 / 3)
PRIMARIES: Final[dict[str, Chromaticities]] = {  # H.273, table 2, by FFmpeg's names
    "bt709": (0.640, 0.330, 0.300, 0.600, 0.150, 0.060, *_D65),
    "bt470m": (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, *_CIE_C),
    "bt470bg": (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65),
    "smpte170m": (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    "smpte240m": (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    "film": (0.681, 0.319, 0.243, 0.692, 0.145, 0.049, *_CIE_C),
    "bt2020": (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    "smpte428": (1.0, 0.0, 0.0, 1.0, 0.0, 0.0, *_EQUAL),
    "smpte431": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    "smpte432": (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
    "ebu3213": (0.630, 0.340, 0.295, 0.605, 0.155, 0.077, *_D65),
}
WIDE: Final = frozenset({"bt470m", "film", "bt2020", "smpte428", "smpte431", "smpte432"})  # far beyond Rec. 709


def decode_pq(code: np.ndarray) -> np.ndarray:
    """cd/m2, float64, of PQ codes; codes are cut at 0 and 1."""
    power = np.clip(code, 0, 1).astype(np.float64) ** (1 / _M2)
    light: np.ndarray = PQ_PEAK * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)
    return light


def encode_pq(light: np.ndarray) -> np.ndarray:
    """PQ codes in [0, 1], float64, of cd/m2."""
    power = (np.clip(light, 0, PQ_PEAK) / PQ_PEAK) ** _M1
    code: np.ndarray = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return code


def decode_hlg(code: np.ndarray) -> np.ndarray:
    """Scene light, float64, of HLG codes by the inverse OETF: 1 is that of code 1. Codes below 0 are 0."""
    code = np.maximum(code, 0).astype(np.float64)
    light: np.ndarray = np.where(code <= 0.5, code**2 / 3, (np.exp((code - _C) / _A) + _B) / 12)
    return light


HLG_WHITE: Final = float(decode_hlg(np.array(0.75)))  # 0.26496: scene light of reference white


def _pq(code: np.ndarray) -> np.ndarray:
    return (decode_pq(code) / REFERENCE_WHITE).astype(np.float32)


def _hlg(code: np.ndarray) -> np.ndarray:
    return (decode_hlg(code) / HLG_WHITE).astype(np.float32)


def _power(exponent: float, gain: float = 1.0) -> Callable[[np.ndarray], np.ndarray]:
    def decode(code: np.ndarray) -> np.ndarray:
        light: np.ndarray = (gain * np.maximum(code, 0).astype(np.float64) ** exponent).astype(np.float32)
        return light

    return decode


def _log(decades: float) -> Callable[[np.ndarray], np.ndarray]:
    def decode(code: np.ndarray) -> np.ndarray:
        light = 10 ** (decades * (np.minimum(code, 2).astype(np.float64) - 1))
        return np.where(code > 0, light, 0).astype(np.float32)

    return decode


def _as_is(code: np.ndarray) -> np.ndarray:
    return code.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Curve:
    """A transfer function that is not the one of ordinary video.

    to_linear  from codes in [0, 1] to linear light, both float32; 1.0 is reference white
    says       which function, which light, and what 1.0 is, for users
    """

    to_linear: Callable[[np.ndarray], np.ndarray]
    says: str


CURVES: Final = {
    "pq": Curve(_pq, "PQ (SMPTE ST 2084): display-linear light, 1.0 is reference white, 203 cd/m2 (code 0.58)"),
    "hlg": Curve(_hlg, "HLG (ARIB STD-B67, BT.2100): scene-linear light, 1.0 is reference white (code 0.75)"),
    "gamma22": Curve(_power(2.2), "gamma 2.2: display-linear light, 1.0 is code 1"),
    "gamma28": Curve(_power(2.8), "gamma 2.8: display-linear light, 1.0 is code 1"),
    "dci": Curve(
        _power(2.6, 52.37 / 48), "gamma 2.6 (SMPTE ST 428-1): display-linear light, 1.0 is 48 cd/m2 (code 0.967)"
    ),
    "log100": Curve(_log(2.0), "logarithmic, 100:1 (H.273): linear light, 1.0 is code 1"),
    "log316": Curve(_log(2.5), "logarithmic, 316:1 (H.273): linear light, 1.0 is code 1"),
    "linear": Curve(_as_is, "linear light, 1.0 is code 1"),
}
BY_TAG: Final = {  # FFmpeg's names; those of H.273 that are not here are ordinary video or sRGB
    "smpte2084": "pq",
    "arib-std-b67": "hlg",
    "bt470m": "gamma22",
    "bt470bg": "gamma28",
    "smpte428": "dci",
    "log100": "log100",
    "log316": "log316",
    "linear": "linear",
}
HDR: Final = frozenset({"pq", "hlg"})


def to_xyz(colours: Chromaticities) -> np.ndarray:
    """(3, 3) float64: from linear RGB of these primaries to CIE XYZ, white at Y = 1. Source: SMPTE RP 177."""
    x, y = np.array(colours[0:6:2]), np.array(colours[1:6:2])
    columns = np.stack([x, y, 1 - x - y])
    white = np.array([colours[6], colours[7], 1 - colours[6] - colours[7]]) / colours[7]
    return columns * np.linalg.solve(columns, white)


_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


@lru_cache(maxsize=32)
def to_rec709(primaries: str) -> np.ndarray:
    """(3, 3) float64: from linear RGB of these primaries to Rec. 709's; white stays white (Bradford)."""
    own, target = to_xyz(PRIMARIES[primaries]), to_xyz(PRIMARIES["bt709"])
    own_white, white = (_BRADFORD @ each.sum(1) for each in (own, target))
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(white / own_white) @ _BRADFORD
    matrix: np.ndarray = np.linalg.inv(target) @ adapt @ own
    return matrix


def luminance_weights(primaries: str) -> np.ndarray:
    """(3,) float64: what red, green and blue of these primaries give to luminance."""
    weights: np.ndarray = to_xyz(PRIMARIES[primaries])[1]
    return weights


def tone_mapped(light: np.ndarray, peak: float) -> np.ndarray:
    """Light for a display whose white is 1, of light up to `peak`, both in reference whites; float64.

    BT.2390's EETF: below a knee nothing changes, above it a spline in PQ codes leads to the display's white.
    """
    if peak <= 1:
        return np.clip(light, 0, 1).astype(np.float64)
    top = float(encode_pq(np.array(peak * REFERENCE_WHITE)))
    most = float(encode_pq(np.array(REFERENCE_WHITE))) / top
    knee = 1.5 * most - 0.5
    code = np.clip(encode_pq(np.asarray(light) * REFERENCE_WHITE) / top, 0, 1)
    t = (code - knee) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return decode_pq(np.where(code < knee, code, spline) * top) / REFERENCE_WHITE
