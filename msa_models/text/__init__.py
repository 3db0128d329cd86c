"""Pretrained text encoders of `transformers`, frozen or fine-tuned, in the place of a corpus' own text features."""
