"""Audio in, arrays out: decoding, resampling, utterances. It must not know models, storage or flows."""
