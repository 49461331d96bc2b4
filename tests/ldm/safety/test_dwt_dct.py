"""The watermark's bits are read as the package reads them."""

from __future__ import annotations

import numpy as np
import pytest

from ldm.safety.dwt_dct import bits_of, chroma, fits, peaks, read_payload, shares_of_ones


def noise(height, width, low=0, high=256):
    rng = np.random.default_rng(height * width + low)
    return rng.integers(low, high, (height, width, 3), dtype=np.uint8)


def reversed_channels(picture):
    return np.ascontiguousarray(picture[..., ::-1])


@pytest.mark.parametrize(("low", "high"), [(0, 256), (0, 3), (253, 256), (120, 135)])
def test_chroma_is_opencvs_to_the_level(low, high):
    cv2 = pytest.importorskip("cv2")
    picture = noise(300, 500, low, high)
    theirs = cv2.cvtColor(reversed_channels(picture), cv2.COLOR_BGR2YUV)[..., 1]
    assert np.array_equal(chroma(picture), theirs)


@pytest.mark.parametrize("shape", [(256, 256), (301, 290), (512, 263), (260, 1031)])
@pytest.mark.parametrize("length", [1, 16, 17, 64])
def test_any_picture_decodes_to_the_packages_bytes(shape, length):
    imwatermark = pytest.importorskip("imwatermark")
    # Few levels put many peaks exactly on the edge of a band, where rounding decides.
    for picture in (noise(*shape), noise(*shape, 0, 2), noise(*shape, 126, 130)):
        theirs = imwatermark.WatermarkDecoder("bytes", 8 * length)
        expected = theirs.decode(reversed_channels(picture), "dwtDct")
        assert read_payload(picture, length) == expected


def test_a_peak_is_the_largest_of_its_block_but_for_the_first_and_votes_by_its_half_of_the_band():
    picture = np.full((16, 8, 3), 100, np.uint8)
    assert np.allclose(peaks(picture), 256)  # grey: U is 128
    assert list(shares_of_ones(picture, 2)) == [0, 0]
    picture[:2, :2, 2] = 255  # the first value of the upper block
    assert np.allclose(peaks(picture), 256)
    picture[10:12, 4:6, 2] = 115  # U is 135: 270 lies 18 above 252, one step below the upper half
    assert list(shares_of_ones(picture, 2)) == [0, 0]
    picture[10:12, 4:6, 2] = 118
    assert list(shares_of_ones(picture, 2)) == [0, 1]


def test_the_smallest_picture_has_256x256_pixels_and_a_block_for_each_bit():
    assert fits(256, 256, 17) and not fits(256, 255, 17)
    assert fits(256, 256, 128) and not fits(256, 256, 129)


def test_bits_come_with_the_highest_first():
    assert list(bits_of(b"\x81")) == [True, *[False] * 6, True]
