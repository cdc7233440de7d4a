class LightningEnvironment:
    pass
