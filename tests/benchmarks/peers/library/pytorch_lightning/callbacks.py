class LambdaCallback:
    def __init__(self, on_train_epoch_start, on_train_epoch_end):
        self.on_train_epoch_start, self.on_train_epoch_end = on_train_epoch_start, on_train_epoch_end
