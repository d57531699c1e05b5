"""What may be named first for each change. Written down before anything was measured, and not touched since.

What is named first is what moved most, by the largest difference of probability (see `models.drift.Verdict.effect`);
the embedding, which has no such number, is named first only where no descriptor drifted. The reasons are of physics and
of how the descriptors are defined, not of what was seen.
"""

from typing import Final

EXPECTED: Final[dict[str, frozenset[str]]] = {
    # A codec adds quantisation noise, which follows the speech, and shapes the spectrum.
    "gsm": frozenset({"snr_db", "bandwidth_hz", "spectral_centroid_hz", "embedding"}),
    # White noise is noise, and its power lies at high frequencies, where there is little speech.
    "noise10": frozenset({"snr_db", "bandwidth_hz", "spectral_centroid_hz"}),
    # Music fills the pauses: to the estimate of noise, and to what counts as speech by its energy.
    "music": frozenset({"snr_db", "speech_share", "embedding"}),
    # Another voice, another language: pitch, spectrum, words that an English model does not know.
    "spanish": frozenset({"embedding", "pitch_median_hz", "speaking_rate", "spectral_centroid_hz", "bandwidth_hz"}),
    # Samples at full scale, and 12 dB more.
    "loud12": frozenset({"clipping", "level_dbfs"}),
    # What lies above 2 kHz is gone: roll-off and mean frequency fall.
    "halfband": frozenset({"bandwidth_hz", "spectral_centroid_hz", "embedding"}),
}
