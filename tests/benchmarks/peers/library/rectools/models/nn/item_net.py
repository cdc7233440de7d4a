class IdEmbeddingsItemNet:
    pass
