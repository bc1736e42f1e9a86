"""Drawing samples: one seed per sample, the sampler, and the pictures and files made of them."""
