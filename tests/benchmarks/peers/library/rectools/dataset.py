class Dataset:
    def __init__(self, table):
        self.table = table

    @classmethod
    def construct(cls, table):
        assert list(table.columns) == ["user_id", "item_id", "weight", "datetime"]
        return cls(table)
